"""What is read out of a container's log."""

from __future__ import annotations

from llmhost.onstart.phases import Told, read

LOG = """\
2026-11-21T10:00:00Z some image says hello
LLMHOST-PHASE begun
LLMHOST-GUARD failed 000
LLMHOST-PHASE ollama
LLMHOST-HOSTKEY ssh-rsa AAAAB3NzaC1yc2E=
LLMHOST-HOSTKEY ecdsa-sha2-nistp256 AAAAE2VjZHNh
LLMHOST-HOSTKEY ssh-rsa AAAAB3NzaC1yc2E=
LLMHOST-PHASE done
LLMHOST-GUARD ok
"""


def test_phases_keys_and_the_guards_last_word():
    told = read(LOG)
    assert told.phases == ("begun", "ollama", "done")
    assert told.host_keys == (("ssh-rsa", "AAAAB3NzaC1yc2E="), ("ecdsa-sha2-nistp256", "AAAAE2VjZHNh"))
    assert (told.guard, told.guarded, told.done) == ("ok", True, True)


def test_only_the_last_start_counts():
    again = read(LOG + "2026-11-21T11:00:00Z LLMHOST-PHASE begun\r\nLLMHOST-HOSTKEY ssh-ed25519 AAAAC3Nz\r\n")
    assert again == Told(("begun",), (("ssh-ed25519", "AAAAC3Nz"),), None)
    assert (again.done, again.guarded) == (False, None)


def test_a_log_without_its_beginning_and_one_without_marks():
    assert read("LLMHOST-GUARD failed 401\n") == Told(guard="failed 401")
    assert read("") == read("LLMHOST-HOSTKEY rubbish\nLLMHOST-HOSTKEY ssh-rsa\nPHASE begun") == Told()
