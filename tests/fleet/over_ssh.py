"""`llmhost up --provider ssh` and what belongs to it, called as the commands call it, on the rehearsal backend."""

from __future__ import annotations

from llmhost.core.errors import LlmhostError
from llmhost.fleet.access import ensure_gateway
from llmhost.fleet.down import Ending, down
from llmhost.fleet.hosts import HostWish
from llmhost.fleet.plan import UpRequest
from llmhost.fleet.remote import prepared
from llmhost.fleet.status import status
from llmhost.supervisor.loopback import request
from tests.support.system import poll, processes_touching
from tests.support.told import Told

# Everything that takes its time, ten times as fast.
QUICK = {
    "tunnel_echo_every": 0.3,
    "tunnel_echo_within": 1.0,
    "tunnel_backoff_first": 0.05,
    "tunnel_login_every": 0.1,
    "tunnel_probe_every": 0.2,
    "tunnel_drain": 1.0,
    "node_drain_s": 5.0,
}


def settings_of(place, **flags):
    return place.settings(**{"provider": "ssh", "backend": "rehearsal", **QUICK, **flags})


def asking(*hosts, identity=None, transport=None, tunnel=True, **more):
    return UpRequest(
        "ssh", hosts=HostWish(tuple(map(str, hosts)), identity and str(identity), transport), tunnel=tunnel, **more
    )


def bring_up(place, *machines, told=None, request=None, **flags):
    """One `up` with these machines; their keys must be alike, or there is only one."""
    wished = request or asking(*(one.target for one in machines), identity=machines[0].client_key if machines else None)
    told = told or Told()
    with prepared(wished, settings_of(place, **flags), place.paths, told) as job:
        return job.carry_out(told)


def refused(place, wished, **flags) -> LlmhostError:
    """What `up` is refused with."""
    told = Told()
    try:
        with prepared(wished, settings_of(place, **flags), place.paths, told) as job:
            job.carry_out(told)
    except LlmhostError as error:
        return error
    raise AssertionError("it was not refused")


def take_down(place, *nodes, force=False):
    return down(settings_of(place), place.paths, Ending("default", nodes, force=force), Told())


def look(place):
    return status(settings_of(place), place.paths, "default").data


def nodes_of(place):
    return {node["id"]: node for node in look(place)["fleet"]["nodes"]}


def ask(place, text="hello"):
    """A question through the gateway; the answer and the node it came from."""
    access = ensure_gateway(settings_of(place), place.paths, Told())
    body = {"max_tokens": 50, "messages": [{"role": "user", "content": text}]}
    headers = {"cache-control": "no-store"}
    address = access.url.removeprefix("http://")
    return request(address, "POST", "/v1/messages", token=access.token, body=body, headers=headers, timeout_s=30)


def running_on(machine):
    """What runs in the home of a machine, the sessions of its sshd and the `cat` of a link aside."""
    found = processes_touching(machine.user_home)
    return {pid: command for pid, command in found.items() if "sshd" not in command and command != "cat"}


def serving_on(machine):
    """The pids of llmhost's own processes there."""
    return {pid for pid, command in running_on(machine).items() if "-m llmhost." in command}


def is_clean(machine):
    """Nothing of ours is on the machine: no process, no file."""
    return poll(lambda: not running_on(machine), 10) and not list(machine.user_home.rglob("*llmhost*/nodes/*"))


def is_clean_here(place):
    """Neither a process nor a socket nor a lock is left."""
    sockets = list(place.paths.runtime_dir.iterdir()) if place.paths.runtime_dir.exists() else []
    locks = [path for path in (place.paths.supervisor_lock, place.paths.state_dir / "up.lock") if path.exists()]
    return poll(lambda: not processes_touching(place.root), 5) and not sockets and not locks
