"""The ways an instance's life can go, as scripts of steps (vast facts §2.1, §2.2 and §5).

A script is what happens to an instance from its creation on, or from a command to start, stop or reboot it on. What it does besides the
five status fields is named in `do` and carried out by `life`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

Script = list["Step"]

LAYERS = ("4c7d45f7c63c", "a1778b69356a", "0f5ff0bcd2b8", "7d1b5a1e6f3d", "e6c1a9d4f8b2", "93ff4f2ac1de")
RUNNING = {"actual_status": "running", "intended_status": "running", "cur_state": "running", "next_state": "running"}
ALL_STOPPED = {
    "actual_status": "stopped",
    "intended_status": "stopped",
    "cur_state": "stopped",
    "next_state": "stopped",
}


@dataclass(frozen=True)
class Step:
    """`after` so many seconds from the step before, these status fields change and these things happen."""

    after: float
    fields: dict[str, Any] = field(default_factory=dict)
    do: tuple[str, ...] = ()


def step(after: float, *do: str, msg: str | None = None, **fields: Any) -> Step:
    named = {"actual": "actual_status", "intended": "intended_status", "cur": "cur_state", "next": "next_state"}
    changes = {named.get(key, key): value for key, value in fields.items()}
    return Step(after, changes | ({} if msg is None else {"status_msg": msg}), do)


def boot(after: float) -> Script:
    """The container starts: the message names the image, with `{image}` filled in by `life`."""
    return [Step(after, RUNNING | {"status_msg": "success, running {image_}/ssh"}, ("boot",))]


def _pull(each: float, first: float = 1.0) -> Script:
    steps = [step(2, actual="created"), step(first, actual="loading", msg=f"{LAYERS[0]}: Pulling fs layer\n")]
    for layer in LAYERS:
        steps += [step(each, msg=f"{layer}: Download complete\n"), step(each, msg=f"{layer}: Pull complete\n")]
    return steps


def _wrapped(after: float, last: float) -> Script:
    """The marketplace builds its wrapper around the image."""
    return [step(after, msg="#7 DONE 31.8s\n"), step(after, msg="Successfully loaded {image}\n"), *boot(last)]


def happy_warm() -> Script:
    """The image is there: 15 s."""
    return [step(2, actual="created"), step(1, actual="loading", msg=""), *_wrapped(4, 4)]


def happy_cold() -> Script:
    """245 s, as was measured on real ones."""
    return [*_pull(15), *_wrapped(26, 10)]


def manifest_unknown() -> Script:
    """Stays `loading` for good; only the message and the contract's state say why."""
    msg = "Error response from daemon: manifest for {image} not found: manifest unknown: manifest unknown\n"
    return [step(2, actual="created"), step(1, actual="loading", msg=""), step(17, msg=msg), step(20, cur="stopped")]


def dead_host() -> Script:
    return [step(2, actual="created"), step(1, actual="loading", msg="", intended="stopped")]


def unpack_freeze() -> Script:
    """Eight minutes of silence after the last layer, then it runs."""
    done = step(480, msg="#7 DONE 31.8s\n")
    return [*_pull(5), done, step(10, msg="Successfully loaded {image}\n"), *boot(10)]


def oci_fail() -> Script:
    msg = (
        "Error response from daemon: failed to create task for container: failed to create shim task: "
        "OCI runtime create failed: runc create failed: unable to start container process\n"
    )
    return [step(2, actual="created"), step(20, msg=msg)]


def never_starts() -> Script:
    """What a too long onstart gets: accepted, and no container ever."""
    return [step(2, actual="created")]


def never_leaves_loading() -> Script:
    return [step(2, actual="created"), step(1, actual="loading", msg=f"{LAYERS[0]}: Pulling fs layer\n")]


def exited_then_back() -> Script:
    """Reads as dead for two minutes, then starts again by itself."""
    return [*happy_warm(), step(30, "halt", actual="exited", msg="exited"), *boot(120)]


def exited() -> Script:
    return [*happy_warm(), step(30, "halt", actual="exited", msg="exited")]


def offline_later() -> Script:
    """The host loses its network for good; what runs on it runs on."""
    return [*happy_warm(), step(60, "cut", actual="offline", msg="")]


def offline_then_back() -> Script:
    return [*offline_later(), step(90, "mend", actual="running", msg="success, running {image_}/ssh")]


def unknown_heartbeat() -> Script:
    """The marketplace hears nothing of the host for 30 s; SSH works throughout."""
    return [*happy_warm(), step(60, actual="unknown"), step(30, actual="running")]


def evict() -> Script:
    """Stopped by the marketplace while it is still being brought up."""
    stop = step(20, actual="exited", cur="stopped", intended="stopped")
    return [step(2, actual="created"), step(1, actual="loading", msg=""), step(10, next="stopped"), stop]


def outbid() -> Script:
    """Another renter pays more: asked to run, and stopped."""
    return [*happy_warm(), step(60, "halt", actual="stopped", cur="stopped", next="stopped")]


def credit_zero() -> Script:
    """The account runs dry a minute after the start."""
    return [*happy_warm(), step(60, "broke")]


def ip_changes() -> Script:
    return [*happy_warm(), step(60, "move")]


def ports_null_while_running() -> Script:
    return [*happy_warm()[:-1], step(4, "hide_ports"), *boot(0), step(60, "show_ports")]


def price_increase() -> Script:
    """The host asks for a tenth more."""
    return [*happy_warm(), step(60, "dearer")]


def contract_end() -> Script:
    """The contract is over ten minutes after the start; the instance stops, and is deleted 48 hours later (vast facts §2.3)."""
    ended = Step(600, dict(ALL_STOPPED), ("halt",))
    return [step(0, "ends_in_10_minutes"), *happy_warm(), ended, step(48 * 3600.0, "delete")]


def gpu_lost() -> Script:
    """The container runs on; its graphics card has fallen off the bus."""
    return [*happy_warm(), step(60, "lose_gpu")]


def never_ssh() -> Script:
    """Runs, and refuses every connection."""
    return [*happy_warm()[:-1], step(4, "refuse"), *boot(0)]


SCENARIOS: dict[str, Callable[[], Script]] = {
    each.__name__: each
    for each in (
        happy_warm,
        happy_cold,
        manifest_unknown,
        dead_host,
        unpack_freeze,
        oci_fail,
        never_starts,
        never_leaves_loading,
        exited_then_back,
        exited,
        offline_later,
        offline_then_back,
        unknown_heartbeat,
        evict,
        outbid,
        credit_zero,
        ip_changes,
        ports_null_while_running,
        price_increase,
        contract_end,
        gpu_lost,
        never_ssh,
    )
}

# What commands set going.
STOP: Script = [Step(5, {"actual_status": "exited"}, ("halt",))]
START: Script = [step(2, actual="loading", msg=""), *boot(8)]
REBOOT: Script = [step(0, "halt", actual="rebooting", msg=""), *boot(5)]
RECYCLE: Script = [step(0, "halt", "wipe", actual="created", msg=""), step(2, actual="loading", msg=""), *boot(8)]
