"""What the market's status fields say of an instance that is being brought up: it goes on, it runs, or it failed and who is to blame. Pure.

Every rule is a row of vast facts §2.1, every limit one of §2.2. No single field decides anything: they are read together.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from llmhost.providers.market import Instance

if TYPE_CHECKING:
    from llmhost.core.settings import Settings

# host, network: this machine is no good, another may be. image: the same on two machines means that none will do. account, ours: no
# other machine would help.
Blame = Literal["host", "image", "network", "account", "ours"]
ALL_STOPPED = "all_stopped"
MAX_SHOWN = 200

_PULL_LINE = re.compile(
    r"\b[0-9a-f]{12}: (Pulling|Waiting|Downloading|Verifying|Download complete|Extracting|Pull complete|Already exists)"
)
# What the daemon says of an image that cannot be had, and of a container that cannot be made of it.
_NO_IMAGE = re.compile(
    r"manifest unknown|manifest for .* not found|pull access denied|repository does not exist|unauthorized"
    r"|failed to resolve reference|Template not found",
    re.IGNORECASE,
)
_FULL = re.compile(r"no space left", re.IGNORECASE)
_NO_CONTAINER = re.compile(
    r"Error response from daemon|OCI runtime create failed|docker_build\(\) error", re.IGNORECASE
)
_UNPRINTABLE = re.compile(r"[^\x20-\x7e\u00a0-\uffff]+")
_AWAY = ("offline", "unknown")
_BEGINNING = {None: "waiting for the machine", "created": "the container is being made", "loading": "loading the image"}


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait, in seconds: without any news, without news once layers of the image were seen, for all of it, for a host that was

    there before and is away, and for a container that exited, which may start again by itself (a real one did so after two minutes).
    """

    stall_s: float = 300.0
    unpack_stall_s: float = 600.0
    boot_s: float = 900.0
    offline_s: float = 120.0
    exited_s: float = 300.0

    @classmethod
    def of(cls, settings: Settings) -> Patience:
        return cls(
            settings.vast_stall_s,
            settings.vast_unpack_stall_s,
            settings.vast_boot_s,
            settings.vast_offline_s,
            settings.vast_stall_s,
        )


@dataclass(frozen=True, slots=True)
class Story:
    """What was seen of an instance so far. Times are of one steady clock, in seconds.

    `changed_at` = when a status field or the message was another one for the last time; `actual_since` the same of `actual` alone;
    `pulled` = layers of the image were seen coming; `was_running` = it ran before.
    """

    begun_at: float
    changed_at: float
    actual_since: float
    status: tuple[str | None, ...] = ()
    pulled: bool = False
    was_running: bool = False

    @classmethod
    def begin(cls, now: float, *, was_running: bool = False) -> Story:
        return cls(now, now, now, was_running=was_running)

    def then(self, instance: Instance, now: float) -> Story:
        """The story with one more answer of the market in it."""
        status = (instance.actual, instance.intended, instance.current, instance.next, instance.message)
        return replace(
            self,
            status=status,
            changed_at=self.changed_at if status == self.status else now,
            actual_since=self.actual_since if status[:1] == self.status[:1] else now,
            pulled=self.pulled or _PULL_LINE.search(instance.message) is not None,
            was_running=self.was_running or instance.actual == "running",
        )

    def without(self, seconds: float) -> Story:
        """The same story, but for so long nobody could know whether anything changed: that time counts for no limit but that of all."""
        return replace(self, changed_at=self.changed_at + seconds, actual_since=self.actual_since + seconds)


@dataclass(frozen=True, slots=True)
class Progressing:
    """Wait on; `text` is what it is at, for people."""

    text: str


@dataclass(frozen=True, slots=True)
class Running:
    """The container runs."""


@dataclass(frozen=True, slots=True)
class Failed:
    """It will not serve. `text` goes on where "the machine" left off."""

    blame: Blame
    code: str
    text: str


Verdict = Progressing | Running | Failed


def classify(instance: Instance, story: Story, now: float, patience: Patience) -> Verdict:
    """What the newest answer means; `story` has it already."""
    failed = _stopping(instance)
    if instance.actual == "running":
        return failed or Running()
    failed = _daemon_trouble(instance.message) or failed
    return failed or _away(instance, story, now, patience) or _too_long(instance, story, now, patience)


def shown(message: str) -> str:
    """A message of the host's daemon as one short printable line; it is the host's text, so anything may be in it."""
    return " ".join(_UNPRINTABLE.sub(" ", message).split())[:MAX_SHOWN]


def _daemon_trouble(message: str) -> Failed | None:
    """`actual` stays `loading` or `created` for good then; only the message says why."""
    if _NO_IMAGE.search(message):
        return Failed("image", "image_missing", f"cannot get the image: {shown(message)}")
    if _FULL.search(message):
        return Failed("host", "host_disk_full", f"has no disk space for the image: {shown(message)}")
    if _NO_CONTAINER.search(message):
        return Failed("host", "container_failed", f"cannot start the container: {shown(message)}")
    return None


def _stopping(instance: Instance) -> Failed | None:
    """Somebody, or the market, wants it to be stopped. Ours are asked to run, always."""
    if instance.current == instance.intended == instance.next == "stopped":
        return Failed("account", ALL_STOPPED, "was stopped by the market")
    if instance.next == "stopped":
        return Failed("host", "evicted", "is about to be stopped by the market")
    if instance.actual == "running":
        return None
    if instance.actual == "stopped" and instance.intended == "running":
        return Failed("host", "outbid", "was stopped in favour of somebody else")
    if "stopped" in (instance.actual, instance.intended, instance.current):
        return Failed("host", "start_refused", "does not start: its host refuses, or is dead")
    return None


def _away(instance: Instance, story: Story, now: float, patience: Patience) -> Verdict | None:
    since = now - story.actual_since
    if instance.actual in _AWAY:
        grace = patience.offline_s if story.was_running else 0.0
        if since < grace:
            return Progressing(f"the host is {instance.actual}, waiting for it to come back")
        return Failed("host", "offline", f"is {instance.actual}: the market hears nothing of its host")
    if instance.actual == "exited":
        if since < patience.exited_s:
            return Progressing("the container exited, waiting for it to start again")
        return Failed("host", "exited", f"exited and did not start again within {patience.exited_s:.0f} s")
    return None


def _too_long(instance: Instance, story: Story, now: float, patience: Patience) -> Verdict:
    if now - story.begun_at >= patience.boot_s:
        return Failed("host", "boot_timeout", f"does not run after {patience.boot_s:.0f} s")
    limit = patience.unpack_stall_s if story.pulled else patience.stall_s
    if now - story.changed_at >= limit:
        last = f" (the last: {shown(instance.message)})" if instance.message.strip() else ""
        return Failed("host", "boot_stalled", f"gave no sign of progress for {limit:.0f} s{last}")
    return Progressing(shown(instance.message) or _BEGINNING.get(instance.actual, str(instance.actual)))
