"""Backend `ollama`: requests of the Messages API, answered by an Ollama server."""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import orjson

from llmhost.backends.base import BackendHealth, Call, ModelInfo, PrefixReuse
from llmhost.backends.http import Response, Upstream, UpstreamError, error_text
from llmhost.backends.ollama.codec import Codec, Decoder, Encoded, LoadedModel, Outcome
from llmhost.backends.ollama.codec_chat import ChatCodec
from llmhost.backends.ollama.engine import HOLD_S, LOOK_S, POLL_S, Engine
from llmhost.backends.ollama.failures import api_error, gone, unfinished
from llmhost.backends.ollama.gate import Gate
from llmhost.backends.ollama.prefixes import FIRST_GUESS, PrefixBook
from llmhost.core.server_config import BackendConfig, Timing
from llmhost.messages.documents import PdfShelf
from llmhost.messages.errors import ApiError, prompt_too_long
from llmhost.messages.prompt import Prompt
from llmhost.messages.prompt_build import build_prompt
from llmhost.messages.prompt_tools import canonical_json
from llmhost.messages.writer import usage

# Kept between `estimate` and `generate` of the same request.
BUILT_KEPT = 8
BUILT_MAX_BYTES = 2_000_000
PROBE_S = 15.0  # for one token of a prompt that the engine holds; its disk or its CPU may be slow


@dataclass(frozen=True, slots=True)
class Built:
    """A request ready to be sent, for one loaded model."""

    body: dict[str, Any]
    model: LoadedModel
    prompt: Prompt
    encoded: Encoded


class OllamaBackend:
    """See `llmhost.backends.base.Backend`.

    Seconds: `poll_s` between looks at Ollama, `look_s` at most for one, `hold_s` at most that a request waits for a load.
    """

    kind = "ollama"
    translates = True

    def __init__(
        self,
        config: BackendConfig,
        timing: Timing,
        *,
        poll_s: float = POLL_S,
        look_s: float = LOOK_S,
        hold_s: float = HOLD_S,
        probe_s: float = PROBE_S,
    ) -> None:
        if not config.url:
            raise ValueError("backend ollama needs Ollama's url")
        self.node_id = config.node_id
        self.reuse = PrefixReuse()
        self._upstream = Upstream(config.url, config.token)
        self._book = PrefixBook(slots=config.parallel)
        self._probe_s = probe_s
        self._probe: asyncio.Task[None] | None = None
        self._settled = asyncio.Event()
        self._settled.set()
        self._under_way: set[asyncio.Timeout] = set()
        self._engine = Engine(
            self._upstream, config, self._book.forget, self._give_up, poll_s=poll_s, look_s=look_s, hold_s=hold_s
        )
        self._codec: Codec = ChatCodec()
        self._gate = Gate()
        self._parallel = config.parallel
        self._at_work = 0
        self._pdfs = PdfShelf()
        self._built: OrderedDict[int, Built] = OrderedDict()
        self._watch: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._watch = asyncio.create_task(self._engine.run())

    async def aclose(self) -> None:
        await self._settled.wait()  # whoever uses this Ollama next must not find it hanging
        if self._watch is not None:
            self._watch.cancel()
            with suppress(asyncio.CancelledError):
                await self._watch
        await self._upstream.aclose()

    def model(self) -> ModelInfo | None:
        return model_info(self._engine.loaded, self._codec.name) if self._engine.loaded else None

    def health(self) -> BackendHealth:
        return self._engine.health

    def estimate(self, body: dict[str, Any]) -> int:
        loaded = self._engine.loaded
        if loaded is None:
            parts = (body.get("system"), body.get("tools"), body["messages"])
            return round(sum(len(canonical_json(part)) for part in parts if part) * FIRST_GUESS)
        built = self._build(body, loaded)
        if len(built.encoded.body) <= BUILT_MAX_BYTES:
            self._built[id(body)] = built
        while len(self._built) > BUILT_KEPT:
            self._built.popitem(last=False)
        return self._book.estimate(built.encoded)

    async def count_tokens(self, body: dict[str, Any]) -> tuple[int, bool]:
        """Exact for a prompt that Ollama has counted; it has no endpoint that counts without reading, so else an estimate."""
        if self._engine.loaded is None:
            return self.estimate(body), False
        built = await self._prepared(body)
        counted = self._book.counted(built.encoded)
        return (self._book.estimate(built.encoded), False) if counted is None else (counted, True)

    async def generate(self, call: Call) -> AsyncIterator[bytes]:
        """The frames of one answer. A request without tools steps back for one with."""
        await self._settled.wait()
        built = await self._prepared(call.body)
        call.served = model_info(built.model, self._codec.name).identity
        self._refuse_overflow(built)
        async with self._gate.passing(main=bool(built.prompt.tools)), aclosing(self._answer(call, built)) as frames:
            self._at_work += 1
            try:
                async for frame in frames:
                    yield frame
            finally:
                self._at_work -= 1

    async def _prepared(self, body: dict[str, Any]) -> Built:
        loaded = await self._engine.model()
        built = self._built.pop(id(body), None)
        if built is None or built.body is not body or built.model is not loaded:
            built = self._build(body, loaded)
        read: dict[str, str] = {}

        def text_of(data: str) -> str | None:
            # what this request has read stays with it: the shelf may have to make room meanwhile
            if data not in read and (known := self._pdfs.get(data)) is not None:
                read[data] = known
            return read.get(data)

        while built.prompt.unread:
            for data in built.prompt.unread:
                read[data] = await asyncio.to_thread(self._pdfs.read, data)
            built = self._build(body, loaded, text_of)
        return built

    def _build(
        self, body: dict[str, Any], model: LoadedModel, read_pdf: Callable[[str], str | None] | None = None
    ) -> Built:
        prompt = build_prompt(body, vision=model.vision, thinking=model.thinking, read_pdf=read_pdf or self._pdfs.get)
        # Whoever takes the answer whole needs no line per token; only an answer that we may have to cut short must be watched growing.
        stream = body.get("stream") is True or bool(prompt.stop) or not prompt.tool_choice.parallel
        encoded = self._book.known(self._codec.encode(prompt, model, stream=stream))
        return Built(body, model, prompt, encoded)

    def _refuse_overflow(self, built: Built) -> None:
        """Only what is certain: a wrong refusal would make Claude Code compact for nothing. Ollama itself refuses the rest."""
        window = built.model.context
        if self._book.at_least(built.encoded) > window:
            raise prompt_too_long(self._book.estimate(built.encoded), window)

    async def _answer(self, call: Call, built: Built) -> AsyncGenerator[bytes, None]:
        decoder = self._codec.decoder(built.prompt, call.writer)
        read = True
        try:
            async with (
                self._watched(),
                self._upstream.stream("POST", built.encoded.path, built.encoded.body) as response,
            ):
                if response.status != 200:
                    read = False
                    raise self._refused(response.status, await response.read(), built)
                yield b""
                async with aclosing(self._frames(response, decoder)) as pieces:
                    async for frames in pieces:
                        yield frames
            last = await self._finished(call, built, decoder)
            read = False
        except (GeneratorExit, asyncio.CancelledError):
            if decoder.outcome.pieces:
                self._look_after(built)
            raise
        except TimeoutError:
            raise gone("it has stopped answering") from None
        except UpstreamError as error:
            read = not error.refused
            raise self._broken(error) from error
        finally:
            if read:  # given up on the way: Ollama reads a prompt to its end all the same
                self._book.record(built.encoded, self._book.estimate(built.encoded), exact=False)
        yield last

    def _look_after(self, built: Built) -> None:
        """Check, once a client has left in the middle of an answer, that Ollama goes on.

        0.24.0 sometimes does not: the goroutine that answers stays blocked on the piece nobody takes and keeps the model's only slot, so
        every later request hangs while `/api/ps` looks healthy (1 in 200 cancels here, one in a dozen on a loaded machine). New requests
        wait for the check; where others are at work their own progress shows it, and it is left out.
        """
        if self._at_work > 1 or not self._settled.is_set():
            return
        self._settled.clear()
        self._probe = asyncio.create_task(self._settle(built))

    async def _settle(self, built: Built) -> None:
        try:
            await self._recount(built)
        finally:
            self._settled.set()

    @asynccontextmanager
    async def _watched(self) -> AsyncIterator[None]:
        """Ends the block with TimeoutError once the watch finds Ollama gone: a frozen one would never end an answer itself."""
        async with asyncio.timeout(None) as limit:
            self._under_way.add(limit)
            try:
                yield
            finally:
                self._under_way.discard(limit)

    def _give_up(self) -> None:
        now = asyncio.get_running_loop().time()
        for limit in self._under_way:
            limit.reschedule(now)

    async def _frames(self, response: Response, decoder: Decoder) -> AsyncGenerator[bytes, None]:
        """Until the last line, or until what came is enough: leaving the stream early stops Ollama."""
        async for chunk in response.chunks():
            frames = decoder.feed(chunk)
            if frames:
                yield frames
            if decoder.outcome.cut or decoder.outcome.failure:
                break
        else:
            yield decoder.feed(b"\n")
        outcome = decoder.outcome
        if outcome.failure or not (outcome.final or outcome.cut):
            self._engine.suspect()
            raise outcome.failure or unfinished()

    async def _finished(self, call: Call, built: Built, decoder: Decoder) -> bytes:
        frames, outcome = decoder.end(), decoder.outcome
        tokens, output = await self._counts(built, outcome)
        cached = self._book.reused(built.encoded, tokens)
        self.reuse.prompt_tokens += tokens
        self.reuse.reused_tokens += cached
        answer = self._codec.echo(built.prompt, outcome, built.model)
        # The last token that was drawn is not in the engine's cache: it was never read back.
        self._book.record(built.encoded, tokens, answer, max(0, output - 1))
        silent = built.prompt.max_tokens == 0
        reason = stop_reason(outcome, built.encoded.num_predict, saw_tool=call.writer.saw_tool)
        counts = usage(tokens - cached, 0 if silent else output, cached)
        return frames + call.writer.finish("max_tokens" if silent else reason, counts, outcome.stop_sequence)

    async def _counts(self, built: Built, outcome: Outcome) -> tuple[int, int]:
        """Tokens of the prompt and of the answer. An answer we cut short has no last line to tell them."""
        final = outcome.final
        if final is None:
            return await self._recount(built), outcome.pieces
        prompt = final.get("prompt_eval_count") or self._book.estimate(built.encoded)
        return int(prompt), int(final.get("eval_count") or outcome.pieces)

    async def _recount(self, built: Built) -> int:
        """Asks for the same prompt once more, for one token: the engine holds it all, so this costs about as much as one token does.

        Not so when another request is waiting for the slot: it would have it first, and then the whole prompt had to be read anew. No
        answer at all means that Ollama hangs, which only loading the model again ends.
        """
        if self._at_work > self._parallel:
            return self._book.estimate(built.encoded)
        once = self._codec.encode(replace(built.prompt, max_tokens=0), built.model, stream=False)
        try:
            answer = await self._upstream.json("POST", once.path, orjson.loads(once.body), timeout=self._probe_s)
            return int(answer["prompt_eval_count"])
        except UpstreamError as error:
            if error.timed_out:
                await self._engine.restart("Ollama has not come back from an answer that was left")
        except (KeyError, TypeError):
            pass
        return self._book.estimate(built.encoded)

    def _refused(self, status: int, content: bytes, built: Built) -> ApiError:
        message = error_text(content) or f"status {status}"
        tokens = self._book.estimate(built.encoded)
        if status != 400:
            self._engine.suspect()
        return api_error(status, message, model=built.model.name, tokens=tokens, window=built.model.context)

    def _broken(self, error: UpstreamError) -> ApiError:
        if error.refused:
            self._engine.lost(error)
            return gone(error.message)
        self._engine.suspect()
        return ApiError(502, f"Ollama broke off: {error.message}")


def stop_reason(outcome: Outcome, num_predict: int, *, saw_tool: bool) -> str:
    """Why the answer ended. Ollama says `length` both at the limit we set and at the window's end; only the first has that many tokens."""
    if outcome.cut == "stop_sequence":
        return "stop_sequence"
    final = outcome.final or {}
    if final.get("done_reason") != "length":
        return "tool_use" if saw_tool else "end_turn"
    return "max_tokens" if int(final.get("eval_count") or 0) >= num_predict else "model_context_window_exceeded"


@lru_cache(maxsize=8)  # asked for several times a request
def model_info(loaded: LoadedModel, codec: str) -> ModelInfo:
    """The model as the seam shows it."""
    return ModelInfo(
        id=loaded.name,
        digest=answer_digest(loaded, codec),
        context=loaded.context,
        max_output=loaded.max_output,
        vision=loaded.vision,
        tools=loaded.tools,
        thinking=loaded.thinking,
        created_at=loaded.created_at,
    )


def answer_digest(model: LoadedModel, codec: str) -> str:
    """Changes whenever the same request may be answered differently: other weights, another Ollama, another way of asking."""
    return hashlib.sha256("\n".join((model.digest, model.version, codec)).encode()).hexdigest()
