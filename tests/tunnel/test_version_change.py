"""An upgrade while people work: the supervisor of the next version takes over links and gateway, and nobody notices."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from llmhost.fleet.access import ensure_gateway
from llmhost.supervisor.process import wait_gone
from tests.fleet.over_ssh import bring_up, settings_of
from tests.fleet.test_upgrade import NEXT, next_version, run_next  # noqa: F401  # a fixture
from tests.support.installation import installation
from tests.support.sse import check_order, parse
from tests.support.sshd import Sshd
from tests.support.system import free_port, processes_touching, wait_until
from tests.support.told import Told

STREAMS = 5
WORDS = 60
PACE_MS = 100


@pytest.fixture
def fleet(short_tmp):
    """One node behind a link, and a gateway."""
    with installation() as place, Sshd(short_tmp / "m") as machine:
        bring_up(place, machine, gateway_port=free_port())
        yield place


def stream(access, number: int, begun: threading.Barrier) -> bytes:
    """One slow answer to its end; the barrier is met at its first bytes."""
    text = f"@rehearse pace {PACE_MS}; words {WORDS}\nstream {number}"
    body = {"max_tokens": 500, "stream": True, "messages": [{"role": "user", "content": text}]}
    headers = {"authorization": f"Bearer {access.token}", "cache-control": "no-store"}
    read = b""
    with httpx.stream("POST", f"{access.url}/v1/messages", json=body, headers=headers, timeout=60) as answer:
        assert answer.status_code == 200
        for chunk in answer.iter_raw():
            if b"text_delta" in chunk and b"text_delta" not in read:
                begun.wait(30)
            read += chunk
    return read


def answers(access) -> bool:
    """Whether the node behind the gateway does; asked without `ensure_gateway`, which would bring the old version back."""
    body = {"max_tokens": 50, "messages": [{"role": "user", "content": "hello"}]}
    headers = {"authorization": f"Bearer {access.token}", "cache-control": "no-store"}
    return httpx.post(f"{access.url}/v1/messages", json=body, headers=headers, timeout=30).status_code == 200


def ssh_of(place) -> set[int]:
    return {pid for pid, line in processes_touching(place.root).items() if line.startswith("ssh ")}


def words_of(events) -> int:
    said = "".join(data["delta"].get("text", "") for kind, data in events if kind == "content_block_delta")
    return len(said.split())


def test_a_version_change_cuts_no_stream_and_leaves_nothing_of_the_old_one(fleet, next_version):  # noqa: F811
    access = ensure_gateway(settings_of(fleet), fleet.paths, Told())
    supervisor, old = fleet.supervisor_pid(), ssh_of(fleet)
    assert len(old) == 1
    begun = threading.Barrier(STREAMS + 1)
    with ThreadPoolExecutor(STREAMS) as pool:
        running = [pool.submit(stream, access, number, begun) for number in range(STREAMS)]
        begun.wait(30)
        found = run_next(fleet, next_version)
        streams = [parse(one.result()) for one in running]
    assert (found["version"], found["url"]) == (NEXT, access.url)
    for events in streams:
        check_order(events)
        assert words_of(events) == WORDS
    assert fleet.supervisor_pid() != supervisor
    assert wait_gone([supervisor, *old], 10) == []
    wait_until(lambda: answers(access), "an answer over the new link", 30)
    fresh = ssh_of(fleet)
    assert len(fresh) == 1
    assert not fresh & old
    names = sorted(path.name for path in fleet.paths.runtime_dir.iterdir())
    assert len(names) == 3, names  # control socket, the node's name, and where it leads
    log = [json.loads(line) for line in fleet.paths.log_file("supervisor").read_text().splitlines() if line[:1] == "{"]
    assert [event["event"] for event in log].count("supervisor_started") == 2
