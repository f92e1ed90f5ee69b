"""The text of the script: small enough whatever it is to do, clean, without a secret, and what was asked of it in it."""

from __future__ import annotations

import itertools
import random
import shlex
import subprocess
from contextlib import suppress

import pytest

from llmhost.bootstrap import early_ollama
from llmhost.core.errors import LlmhostError
from llmhost.core.ollama_environment import serve_environment
from llmhost.core.templates import template
from llmhost.onstart.render import MAX_BYTES, TEMPLATE, EarlyOllama, render
from tests.onstart.box import boot
from tests.support.system import program

URL = "https://console.vast.ai"
SETTINGS = serve_environment("127.0.0.1:11434", 131_072, has_gpu=True, memory_mb=128_000)
OLLAMA = EarlyOllama("0.24.0", "qwen3-coder:30b-a3b-q4_K_M", SETTINGS)
COMMANDS = EarlyOllama("0.24.0", "qwen3:8b", SETTINGS, install="curl -fsS https://example.test/i.sh | sh -s -- 'a b'")
NASTY = (
    "it's",
    'a "quoted" one',
    "$(touch /tmp/never)",
    "`id`",
    "back\\slash",
    "a;b&c|d",
    "Zoë und 世界",
    "*",
    "~",
    "-n",
)


def shellcheck(text, shell="bash"):
    checker = program("shellcheck", "install Debian's package shellcheck")
    done = subprocess.run(
        [checker, f"--shell={shell}", "-"], input=text, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout


def scripts():
    engines = (None, OLLAMA, COMMANDS, EarlyOllama("0.24.0"))
    for engine, (ends, idle) in zip(engines, itertools.product((None, 1_800_000_000), (None, 1_800)), strict=True):
        yield render(boot(URL, ollama=engine, lease_ends_at=ends, idle_s=idle))


def test_shellcheck_has_nothing_to_say():
    shellcheck(template(TEMPLATE))
    for text in scripts():
        shellcheck(text)
    shellcheck(early_ollama.SCRIPT, "sh")


def test_it_fits_with_all_that_can_usually_be_asked():
    folder = ".llmhost/nodes/" + "n" * 40
    text = render(boot(URL, node_folder=folder, ollama=OLLAMA, lease_ends_at=1_800_000_000, idle_s=1_800))
    assert len(text.encode()) <= MAX_BYTES == 4_000
    assert "python3 -c" in text  # also a machine without curl can end itself


def test_whatever_is_asked_it_fits_or_is_refused():
    chance = random.Random(5)
    sizes = []
    for _ in range(200):
        words = [chance.choice(NASTY) * chance.randint(1, chance.choice((1, 5, 60))) for _ in range(6)]
        engine = EarlyOllama(words[0], words[1], {"OLLAMA_A": words[2], "B": words[3]}, chance.choice((None, words[4])))
        asked = boot(URL, idle_s=9, public_key=f"ssh-rsa {words[5]}", ollama=chance.choice((None, engine)))
        with suppress(LlmhostError):
            text = render(asked)
            sizes.append(len(text.encode()))
            assert subprocess.run(["bash", "-n"], input=text.encode(), check=False).returncode == 0
    assert max(sizes) <= MAX_BYTES
    assert 50 < len(sizes) < 200


def test_what_does_not_fit_is_refused_with_a_way_out():
    with pytest.raises(LlmhostError) as refused:
        render(boot(URL, ollama=EarlyOllama("1", install="x" * 3_000)))
    assert refused.value.code == "onstart_too_long"
    assert str(MAX_BYTES) in refused.value.message
    assert "ollama_install" in refused.value.hint


def test_values_arrive_as_they_are():
    for word in NASTY:
        engine = EarlyOllama("1", word, {"OLLAMA_A": word}, install=f"echo {word}")
        text = render(boot(URL, public_key=f"ssh-rsa {word}", node_folder=f"nodes/{word}", ollama=engine))
        values = text.splitlines()[1]
        shown = f'{values}\nprintf "%s\\n" "$L_KEY" "$L_DIR" "$L_MODEL" "$L_INSTALL"; eval "export $L_SET"; printf "%s\\n" "$OLLAMA_A"'
        done = subprocess.run(["bash", "-c", shown], capture_output=True, text=True, check=True)
        assert done.stdout.splitlines() == [f"ssh-rsa {word}", f"nodes/{word}", word, f"echo {word}", word]


def test_only_what_is_wanted_is_in_it():
    bare = render(boot(URL + "/"))
    assert not any(word in bare for word in ("ollama", "L_IDLE", "L_ENDS", "\n#", "\n ", "\n\n"))
    assert f"L_API={shlex.quote(URL)} " in bare
    told = render(boot(URL, ollama=COMMANDS))
    assert "zstd" not in told
    assert "OLLAMA_HOST=127.0.0.1:11434" not in told  # where the bootstrap would take it for the machine's own
    assert all(f"{name}={value}" in told for name, value in SETTINGS.items() if name != "OLLAMA_HOST")


def test_the_template_explains_itself_and_the_script_has_no_room_to():
    comments = [line for line in template(TEMPLATE).splitlines() if line.strip().startswith("# ")]
    assert len(comments) > 20
    assert not [line for text in scripts() for line in text.splitlines()[1:] if line.startswith("#")]


def test_the_time_of_a_template_that_knows_no_secret():
    """Nothing that could be one is even a field; the container's own key is only named."""
    text = render(boot(URL, ollama=OLLAMA))
    assert "CONTAINER_API_KEY" in text
    assert not [word for word in ("VAST_API_KEY", "vast_api_key", "token", "password") if word in text]


@pytest.mark.parametrize("folder", ["/elsewhere/x", "../x", "a/../../x", "", "."])
def test_a_folder_elsewhere_is_a_mistake(folder):
    with pytest.raises(ValueError, match="below the home"):
        render(boot(URL, node_folder=folder))


def test_other_mistakes():
    for key in ("", "one\ntwo"):
        with pytest.raises(ValueError, match="one line"):
            render(boot(URL, public_key=key))
    with pytest.raises(ValueError, match="name of a variable"):
        render(boot(URL, ollama=EarlyOllama("1", "m", {"A B": "c"})))
