"""Splitting a stream of bytes into whole server-sent events, without looking inside them."""

from __future__ import annotations

import orjson

END = b"\n\n"


class FrameSplitter:
    """Cuts an upstream's bytes at event boundaries, so that what is passed on can be joined with frames of our own (pings)."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, chunk: bytes) -> bytes:
        """All whole events so far, as one piece; what is incomplete waits for the next chunk."""
        data = self._rest + chunk if self._rest else chunk
        if data.endswith(END):
            self._rest = b""
            return data
        cut = data.rfind(END)
        if cut < 0:
            self._rest = data
            return b""
        cut += len(END)
        self._rest = data[cut:]
        return data[:cut]

    @property
    def pending(self) -> bool:
        """True when the upstream stopped inside an event."""
        return bool(self._rest)


def is_in(event: str, frames: bytes) -> bool:
    """Whether an event of that name is among the frames. A line break inside JSON is written \\n, so content cannot look like one."""
    return b"event: %b\ndata: " % event.encode() in frames


def restarted(frames: bytes, id: str, model: str) -> bytes:
    """The frames of another request's answer with a `message_start` of one's own."""
    first, _, rest = frames.partition(END)
    event = orjson.loads(first.partition(b"data: ")[2])
    event["message"] |= {"id": id, "model": model}
    return b"event: message_start\ndata: " + orjson.dumps(event) + END + rest


def drop_first_start(frames: bytes) -> bytes:
    """The same frames without their `message_start`, for when one was already sent."""
    kept = [frame for frame in frames.split(END) if frame and not frame.startswith(b"event: message_start")]
    return b"".join(frame + END for frame in kept)
