"""No secret of ours appears where somebody else may look, over the whole life of a rented fleet."""

from __future__ import annotations

import contextlib
import json
import threading
from pathlib import Path

import httpx

from llmhost.core.ledger import Ledger
from tests.rented.matrix.house import PATIENT, ledger_of

REDIS = "sentinel-of-the-redis-password"
LOOK_S = 0.03
# A Redis that is not there: its password is handed on all the same.
NO_REDIS = {"LLMHOST_CACHE_STORE": "redis", "REDIS_HOST": "127.0.0.1", "REDIS_PORT": "9", "REDIS_PASSWORD": REDIS}


class Processes:
    """Command lines and environments of everything that runs on this machine while the block does."""

    def __init__(self) -> None:
        self.seen: set[tuple[bytes, bytes]] = set()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Processes:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(LOOK_S):
            for entry in Path("/proc").iterdir():
                if entry.name.isdigit():
                    with contextlib.suppress(OSError):
                        self.seen.add(((entry / "cmdline").read_bytes(), (entry / "environ").read_bytes()))

    def with_secret(self, secret: str) -> list[bytes]:
        """The command lines of those that had it in one of the two."""
        return [argv for argv, environ in self.seen if secret.encode() in argv + environ]


def holding(folder: Path, secret: str) -> list[str]:
    """The files below it that have the secret in them."""
    found = []
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            if path.is_file() and secret.encode() in path.read_bytes():
                found.append(str(path.relative_to(folder)))
    return sorted(found)


def asked(market) -> str:
    """Everything that came in, but for the header that the key belongs in."""
    calls = [one.as_dict() | {"answered": None} for one in market.exchanges]
    return json.dumps(calls)


def test_no_secret_appears_anywhere(sandboxed, new_house):
    house = new_house(sandboxed, **PATIENT, **NO_REDIS)
    said = []
    with Processes() as seen:
        said.append(house.up())
        assert said[0].exit_code == 0, said[0].stdout
        (instance,) = house.control.instances()
        with Ledger.open(ledger_of(house)) as ledger:
            (node,) = ledger.nodes()
        secrets = {"account": sandboxed.key, "redis": REDIS, "gateway": house.token, "node": node.token}
        said.append(house.run("status", "--refresh"))
        for more in (
            (),
            ("--source", "onstart"),
            ("--source", "instance"),
            ("--source", "gateway"),
            ("--source", "watch"),
        ):
            said.append(house.run("logs", *(("n1",) if more[1:] != ("gateway",) else ()), *more))
        said += [house.run("cost"), house.run("offers"), house.run("doctor"), house.run("config", "show")]
        url = said[1].json["data"]["gateway"]["url"]
        body = {"max_tokens": 9, "messages": [{"role": "user", "content": "hello"}]}
        httpx.post(f"{url}/v1/messages", json=body, headers={"x-api-key": house.token}, timeout=30).raise_for_status()
        machine = instance.machine
        there = {name: holding(machine.folder, secret) for name, secret in secrets.items()}
        printed = machine.output()
        said.append(house.end())
    assert said[-1].exit_code == 0, said[-1].stdout

    own = there.pop("node")
    assert there == {"account": [], "redis": [], "gateway": []}
    assert len(own) == 1, own  # the node's own token, in a file of its own
    told = "\n".join(one.stdout + one.stderr for one in said)
    container = json.dumps([instance.env, instance.onstart, instance.label, instance.daemon_log])
    for name, secret in secrets.items():
        assert secret not in asked(sandboxed.market), name
        assert secret not in printed, name
        assert secret not in container, name
        assert secret not in told, name
        assert holding(house.state_dir / "logs", secret) == [], name
        assert seen.with_secret(secret) == [], name
    assert instance.key not in told  # the machine's own, which it prints where it can
    assert holding(house.state_dir / "logs", instance.key) == []


def test_no_secret_in_what_failed(paper, new_house):
    """Errors, diagnoses and alerts of a machine that comes to nothing, and of an account that is refused."""
    house = new_house(paper, LLMHOST_VAST_ATTEMPTS="1", **NO_REDIS)
    said = [house.up()]
    house.control.fault("auth", count=-1)
    said += [house.up(), house.run("gc", "--yes"), house.end()]
    house.control.clear_faults()
    house.control.fault("html_200", count=-1)
    said += [house.up(), house.run("status", "--refresh")]
    house.control.clear_faults()
    assert [one.exit_code for one in said][:2] == [7, 4]
    told = "\n".join(one.stdout + one.stderr for one in said)
    for secret in (paper.key, REDIS):
        assert secret not in told
        assert secret not in asked(paper.market)
        assert holding(house.state_dir, secret) == []
    house.assert_nothing_leaks()
