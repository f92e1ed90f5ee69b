"""What a machine printed is kept before it is destroyed, without anything secret."""

from __future__ import annotations

import stat
from dataclasses import replace

import pytest

from llmhost.core.errors import LlmhostError
from llmhost.fleet.rented import diagnosis
from tests.support.system import wait_until

KIND = "OPENSSH " + "PRIVATE KEY"
TOKEN = "llmh_Zm9vYmFyZm9vYmFyZm9vYmFyZm9vYmFyZm9vYmFyZm9vYmE"


def collected(shop, rental, *more):
    secrets = diagnosis.known_secrets(shop.desk.settings, shop.ledger, shop.place.paths, *more)
    return diagnosis.collect(rental, shop.market, secrets, shop.place.paths)


def said(shop, rental, word):
    machine = shop.control.instance(rental.instance_id).machine
    wait_until(lambda: word in machine.output(), f"{word!r} in the container's log", 30)


def test_the_log_is_kept_and_hides_what_is_secret(shop):
    secret = f"echo 'account {shop.server.key} own {TOKEN}'; echo \"own key $CONTAINER_API_KEY\"; echo last words"
    rental = shop.rent(onstart=secret)
    said(shop, rental, "last words")
    path = collected(shop, rental, shop.server.key)
    assert path == shop.place.paths.log_dir / "rented" / f"{rental.label.replace('/', '-')}.log"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    text = path.read_text()
    assert shop.server.key not in text
    assert TOKEN not in text
    assert shop.control.instance(rental.instance_id).key not in text
    assert text.count(diagnosis.HIDDEN) == 3
    assert "last words" in text
    error = LlmhostError("it failed.")
    diagnosis.explain(error, path)
    assert error.message.startswith("it failed.")
    assert error.message.endswith("  last words")


@pytest.mark.parametrize("trouble", ["gone", "never ready", "refused", "unwritable"])
def test_it_never_fails_itself(shop, trouble):
    rental = shop.rent()
    said(shop, rental, "own words")
    if trouble == "gone":
        shop.control.destroy(rental.instance_id)
    elif trouble == "never ready":
        shop.control.set(logs_ready=False)
    elif trouble == "refused":
        shop.control.fault("auth", "PUT", "request_logs", count=100)
    else:
        shop.place.paths.log_dir.mkdir(parents=True, exist_ok=True)
        (shop.place.paths.log_dir / "rented").write_text("in the way")
    assert collected(shop, rental) is None
    error = LlmhostError("it failed.")
    diagnosis.explain(error, None)
    assert error.message == "it failed."


def test_one_that_was_never_rented_has_no_log(paper):
    assert collected(paper, replace(paper.rent(), instance_id=None)) is None


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a secret-of-mine here", "a [hidden] here"),
        ("a secret-of-mine-too here", "a [hidden] here"),
        (f"token {TOKEN}.", "token [hidden]."),
        ("Authorization: Bearer abcdefgh12345", "Authorization: Bearer [hidden]"),
        (f"key {'0a' * 32}", "key [hidden]"),
        (f"sha256:{'0a' * 32}", f"sha256:{'0a' * 32}"),
        ("x\x1b[31mred\x07", "x[31mred"),
        (f"-----BEGIN {KIND}-----\nabc\n-----END {KIND}-----\nafter", "[hidden]\nafter"),
        ("short pw stays", "short pw stays"),
    ],
)
def test_what_is_hidden(text, shown):
    assert diagnosis.redacted(text, ["secret-of-mine", "secret-of-mine-too", "pw"]) == shown


def test_only_so_much_is_kept(shop):
    rental = shop.rent(onstart="head -c 900000 /dev/zero | tr '\\0' x | fold -w 5000; echo; echo the end")
    said(shop, rental, "the end")
    path = collected(shop, rental)
    assert path.stat().st_size <= diagnosis.MAX_BYTES
    assert diagnosis.last_lines(path)[-1] == "the end"
    assert all(len(line) <= diagnosis.MAX_LINE for line in diagnosis.last_lines(path))
