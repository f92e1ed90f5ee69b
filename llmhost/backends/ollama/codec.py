"""The seam between the Messages API and one way of asking Ollama.

A codec turns a `Prompt` into the bytes of one request, and the streamed lines of the answer into frames. `ChatCodec` (`/api/chat`) lets
Ollama render the prompt and parse the answer, which works for every model.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol

from llmhost.messages.errors import ApiError
from llmhost.messages.prompt import Prompt
from llmhost.messages.writer import EventWriter

Cut = Literal["stop_sequence", "one_call"]


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model as Ollama has it loaded.

    `context` is the window in tokens that `/api/ps` reports; `num_ctx` what every request asks for (None: Ollama's own choice), always
    the same, because a request that asks for another window makes Ollama load the model anew. `digest` is the manifest's, `version`
    that of Ollama. `renderer` is Ollama's name, "" for a model with a template; `format` that of the weights.
    """

    name: str
    digest: str
    context: int
    num_ctx: int | None = None
    keep_alive: str | int = -1
    max_output: int = 32_000
    vision: bool = False
    tools: bool = True
    thinking: bool = False
    family: str = ""
    format: str = ""
    renderer: str = ""
    version: str = ""
    created_at: str = "2026-01-01T00:00:00Z"


class Segment(NamedTuple):
    """One piece of a prompt in the order the model reads it. `key` is equal only for equal pieces; `size` is roughly its bytes of text."""

    key: bytes
    size: int


@dataclass(frozen=True, slots=True)
class Encoded:
    """One request to Ollama: `body` for `POST path`, what its prompt is made of, and the most tokens the answer may have."""

    path: str
    body: bytes
    segments: tuple[Segment, ...]
    num_predict: int

    @property
    def size(self) -> int:
        return sum(segment.size for segment in self.segments)


@dataclass(slots=True)
class Outcome:
    """What a decoder has learned of an answer besides its frames.

    `final` is the line that says done, with Ollama's counts. `cut` says that we have heard enough and why, `stop_sequence` which one it
    was. `failure` is what Ollama reported instead of going on. `pieces` counts the parts that came, about one a token; `text` and
    `calls` are what the client was given.
    """

    final: dict[str, Any] | None = None
    cut: Cut | None = None
    stop_sequence: str | None = None
    failure: ApiError | None = None
    pieces: int = 0
    text: list[str] = field(default_factory=list)
    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)


class Decoder(Protocol):
    """Reads one answer. After `feed` has set `outcome.final` or `outcome.cut`, `end` gives what was held back.

    `outcome.failure` is set rather than raised, so that the frames before it are not lost.
    """

    outcome: Outcome

    def feed(self, chunk: bytes) -> bytes:
        """Frames for the bytes that came, whole lines or not."""

    def end(self) -> bytes:
        """The last frames before the message's end."""


class Codec(Protocol):
    """One way of asking Ollama. `name` changes whenever the same request may be put to the model differently."""

    name: str

    def encode(self, prompt: Prompt, model: LoadedModel, *, stream: bool = True) -> Encoded:
        """The request. Equal prompts give equal bytes."""

    def echo(self, prompt: Prompt, outcome: Outcome, model: LoadedModel) -> Segment:
        """The piece that the next request's prompt will hold if the client sends this answer back."""

    def decoder(self, prompt: Prompt, writer: EventWriter) -> Decoder:
        """A reader for the answer to that request."""
