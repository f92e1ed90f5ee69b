"""One model of an Ollama server, and the requests that it answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, suppress
from dataclasses import replace
from typing import Any

import orjson

from llmhost.backends.base import BackendHealth, Call, ModelInfo, PrefixReuse
from llmhost.backends.http import Response, Upstream, UpstreamError, error_text
from llmhost.backends.ollama.care import Asked, CalledBack, Care
from llmhost.backends.ollama.codec import Codec, Decoder, Outcome
from llmhost.backends.ollama.codec_chat import ChatCodec
from llmhost.backends.ollama.drafts import Built, Drafts, first_guess
from llmhost.backends.ollama.engine import Engine
from llmhost.backends.ollama.failures import api_error, gone, unfinished
from llmhost.backends.ollama.gate import Gate
from llmhost.backends.ollama.hall import Hall
from llmhost.backends.ollama.pace import Pace
from llmhost.backends.ollama.prefixes import PrefixBook
from llmhost.backends.ollama.served import model_info, stop_reason
from llmhost.core.server_config import BackendConfig
from llmhost.messages.documents import PdfShelf
from llmhost.messages.errors import ApiError, prompt_too_long
from llmhost.messages.writer import usage


class OneModel:
    """`standing` = it is kept loaded; another one is loaded when a request asks for it. To be made inside a running event loop."""

    def __init__(
        self, upstream: Upstream, config: BackendConfig, hall: Hall, pdfs: PdfShelf, pace: Pace, *, standing: bool
    ) -> None:
        self.reuse = PrefixReuse()
        self.in_use = 0
        self._upstream = upstream
        self._hall = hall
        self._book = PrefixBook(slots=config.parallel)
        self._pace = pace
        self._engine = Engine(
            upstream,
            config,
            self._book.forget,
            self._give_up,
            hall=hall,
            standing=standing,
            poll_s=pace.poll_s,
            look_s=pace.look_s,
            hold_s=pace.hold_s,
        )
        self._care = Care(upstream, self._engine, hall, probe_s=pace.probe_s, hold_s=pace.hold_s, close_s=pace.close_s)
        self._codec: Codec = ChatCodec()
        self._gate = Gate()
        self._parallel = config.parallel
        self._drafts = Drafts(self._codec, self._book, pdfs)
        self._watch: asyncio.Task[None] | None = None

    async def once_ready(self) -> None:
        """Returns when it is loaded. Raises ApiError as a request would."""
        await self._engine.model()

    def begin(self) -> None:
        """Watch, and check, in the background."""
        self._watch = asyncio.create_task(self._engine.run())
        self._care.doubt()  # whoever used this Ollama before may have been killed in the middle of an answer

    async def aclose(self) -> None:
        await self._care.aclose()
        if self._watch is not None:
            self._watch.cancel()
            with suppress(asyncio.CancelledError):
                await self._watch
        self._engine.close()

    @property
    def name(self) -> str | None:
        return self._engine.name

    @property
    def is_idle(self) -> bool:
        """Whether it is not in memory and nobody asks for it."""
        return not self.in_use and not self._engine.in_memory

    def loaded(self) -> ModelInfo | None:
        """As it is in memory."""
        return model_info(self._engine.loaded, self._codec.name) if self._engine.loaded else None

    def model(self) -> ModelInfo | None:
        """As it is in memory, or as it was before it made room."""
        current = self._engine.current
        return model_info(current, self._codec.name) if current else None

    def health(self) -> BackendHealth:
        return self._engine.health

    def estimate(self, body: dict[str, Any]) -> int:
        current = self._engine.current
        return self._drafts.estimate(body, current) if current else first_guess(body)

    async def count_tokens(self, body: dict[str, Any]) -> tuple[int, bool]:
        """Exact for a prompt that Ollama has counted; it has no endpoint that counts without reading, so else an estimate."""
        loaded = self._engine.loaded
        if loaded is None:
            return self.estimate(body), False
        built = await self._drafts.prepared(body, loaded)
        counted = self._book.counted(built.encoded)
        return (self._book.estimate(built.encoded), False) if counted is None else (counted, True)

    async def generate(self, call: Call) -> AsyncIterator[bytes]:
        """The frames of one answer. A request without tools steps back for one with."""
        self.in_use += 1
        try:
            async with aclosing(self._generate(call)) as frames:
                async for frame in frames:
                    yield frame
        finally:
            self.in_use -= 1

    async def _generate(self, call: Call) -> AsyncGenerator[bytes, None]:
        built = await self._accepted(call)
        # An answer taken whole is silent until its end; and asking a second time is enough to be rid of whatever hung.
        patience = self._pace.silent_s if built.stream else None
        async with self._gate.passing(main=bool(built.prompt.tools)):
            while True:
                while not self._may_ask(built):
                    await self._care.certainty()
                    built = await self._accepted(call)
                async with self._hall.using(self._engine):
                    if not self._may_ask(built):  # it had to wait for another model, and much may have happened
                        continue
                    try:
                        async with aclosing(self._answer(call, built, patience)) as frames:
                            async for frame in frames:
                                yield frame
                        return
                    except CalledBack:
                        patience = None

    def _may_ask(self, built: Built) -> bool:
        """Whether Ollama goes on, and has the very model in memory that the request was made for."""
        return self._care.certain and built.model is self._engine.loaded

    async def _accepted(self, call: Call) -> Built:
        built = await self._drafts.prepared(call.body, await self._engine.model())
        call.served = model_info(built.model, self._codec.name).identity
        self._refuse_overflow(built)
        return built

    def _refuse_overflow(self, built: Built) -> None:
        """Only what is certain: a wrong refusal would make Claude Code compact for nothing. Ollama itself refuses the rest."""
        window = built.model.context
        if self._book.at_least(built.encoded) > window:
            raise prompt_too_long(self._book.estimate(built.encoded), window)

    async def _answer(self, call: Call, built: Built, patience: float | None) -> AsyncGenerator[bytes, None]:
        """The frames. Raises CalledBack, before the first, when the request has to make way for a check of Ollama."""
        decoder = self._codec.decoder(built.prompt, call.writer)
        asked = Asked(patience)
        read = doubtful = True
        try:
            async with (
                self._care.asking(asked),
                self._upstream.stream("POST", built.encoded.path, built.encoded.body) as response,
            ):
                self._care.begun(asked)
                if response.status != 200:
                    read, doubtful = False, response.status == 500  # any other it says before it has the slot, or after
                    raise self._refused(response.status, await response.read(), built)
                yield b""
                async with aclosing(self._frames(response, decoder)) as pieces:
                    async for frames in pieces:
                        yield frames
            last = await self._finished(call, built, decoder)
            read = doubtful = False
        except TimeoutError:
            if asked.called_back:
                doubtful = False  # it was for a check that goes on
                raise CalledBack from None
            raise gone("it has stopped answering") from None
        except UpstreamError as error:
            read = doubtful = not error.refused
            raise self._broken(error) from error
        finally:
            if read:  # given up on the way: Ollama reads a prompt to its end all the same
                self._book.record(built.encoded, self._book.estimate(built.encoded), exact=False)
            if doubtful:
                self._care.doubt()
        yield last

    def _give_up(self) -> None:
        self._care.give_up()

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

        Not so when another request is waiting for the slot: it would have it first, and then the whole prompt had to be read anew. An
        answer also tells that Ollama goes on after ours was left.
        """
        if len(self._care.asked) >= self._parallel:
            self._care.doubt()
            return self._book.estimate(built.encoded)
        once = self._codec.encode(replace(built.prompt, max_tokens=0), built.model, stream=False)
        try:
            answer = await self._upstream.json("POST", once.path, orjson.loads(once.body), timeout=self._pace.probe_s)
            return int(answer["prompt_eval_count"])
        except (UpstreamError, KeyError, TypeError):
            self._care.doubt()
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
