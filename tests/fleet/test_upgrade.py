"""A new version of llmhost meets the running supervisor of an old one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import llmhost
from llmhost.fleet.access import ensure_gateway
from llmhost.fleet.plan import UpRequest, make_plan
from llmhost.fleet.status import status
from llmhost.fleet.up import up
from llmhost.supervisor.loopback import request
from tests.support.system import free_port, wait_until
from tests.support.told import Told

NEXT = "99.0.0"
SCRIPT = """
import json
from llmhost.core.paths import Paths
from llmhost.core.settings import load_settings
from llmhost.fleet.access import ensure_gateway
from llmhost.fleet.status import status
from tests.support.told import Told
settings, paths, told = load_settings({}), Paths.from_environment(), Told()
access = ensure_gateway(settings, paths, told)
data = status(settings, paths, "default").data
print(json.dumps({"url": access.url, "token": access.token, "notes": told.notes, "version": data["gateway"]["version"]}))
"""


@pytest.fixture
def fleet(place):
    settings = place.settings(backend="rehearsal", gateway_port=free_port())
    up(make_plan(UpRequest(), settings, place.paths), settings, place.paths, Told())
    return place


@pytest.fixture
def next_version(tmp_path):
    """The environment in which llmhost is the next version."""
    package = Path(llmhost.__file__).parent
    shutil.copytree(package, tmp_path / "llmhost", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(Path(__file__).parents[1] / "support", tmp_path / "tests" / "support")
    init = tmp_path / "llmhost" / "__init__.py"
    init.write_text(init.read_text().replace(llmhost.__version__, NEXT))
    return {"PYTHONPATH": str(tmp_path), "PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"}


def run_next(place, environ):
    argv = [sys.executable, "-P", "-c", SCRIPT]
    done = subprocess.run(
        argv, env={**environ, **place.environ}, cwd=place.root, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_next_version_takes_over_port_token_and_fleet(fleet, next_version):
    before = ensure_gateway(fleet.settings(), fleet.paths, Told())
    old = fleet.supervisor_pid()
    found = run_next(fleet, next_version)
    assert (found["url"], found["token"], found["version"]) == (before.url, before.token, NEXT)
    assert f"replacing the running supervisor {llmhost.__version__} by {NEXT}" in found["notes"][0]
    assert fleet.supervisor_pid() != old


def test_status_and_down_of_another_version_do_not_replace_it(fleet, next_version):
    run_next(fleet, next_version)
    pid = fleet.supervisor_pid()
    data = status(fleet.settings(), fleet.paths, "default").data
    assert (data["supervisor"]["outdated"], data["gateway"]["version"]) == (True, NEXT)
    assert "supervisor_outdated" in [advice["code"] for advice in data["advice"]]
    assert fleet.supervisor_pid() == pid


def test_a_request_in_flight_finishes_and_none_is_refused_while_it_is_replaced(fleet, next_version):
    access = ensure_gateway(fleet.settings(), fleet.paths, Told())
    address = access.url.removeprefix("http://")
    replaced = threading.Event()

    def ask(text):
        body = {"max_tokens": 50, "messages": [{"role": "user", "content": text}]}
        return request(address, "POST", "/v1/messages", token=access.token, body=body, timeout_s=30).status

    def keep_asking():
        answers = []
        while not replaced.is_set():
            try:
                answers.append(ask("again"))
            except (ConnectionResetError, BrokenPipeError):
                # Accepted in the very moment of the stop. Every HTTP client tries such a one again; a refused one not.
                continue
        return answers

    with ThreadPoolExecutor(2) as pool:
        slow = pool.submit(ask, "@rehearse stall 2; say done")
        wait_until(lambda: fleet.child("gateway")["reading"]["requests"]["in_flight"], "the slow request to run")
        steady = pool.submit(keep_asking)
        try:
            assert run_next(fleet, next_version)["version"] == NEXT
        finally:
            replaced.set()
        assert slow.result() == 200
        assert set(steady.result()) == {200}


def test_several_of_the_next_version_at_once_replace_it_once(fleet, next_version):
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: run_next(fleet, next_version), range(4)))
    assert {(one["url"], one["version"]) for one in found} == {(found[0]["url"], NEXT)}
    lines = fleet.paths.log_file("supervisor").read_text().splitlines()
    assert sum('"supervisor_started"' in line for line in lines) == 2
