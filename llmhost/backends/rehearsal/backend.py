"""The backend `rehearsal`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from llmhost.backends.base import BackendHealth, Call, ModelInfo, PrefixReuse
from llmhost.backends.rehearsal.answer import undirected_answer
from llmhost.backends.rehearsal.compaction import asks_for_summary, is_continued, summary
from llmhost.backends.rehearsal.conversation import Conversation, read_conversation
from llmhost.backends.rehearsal.directives import Directive, DirectiveError, Overflow, lines_of, parse_line
from llmhost.backends.rehearsal.instance import SchemaError
from llmhost.backends.rehearsal.playback import play
from llmhost.backends.rehearsal.prompt import PrefixMemory, Prompt, render
from llmhost.backends.rehearsal.script import Budget, Script, write_script
from llmhost.core.server_config import BackendConfig, Timing
from llmhost.messages.errors import ApiError, prompt_too_long
from llmhost.messages.writer import usage

MODEL = "rehearsal"
DIGEST = "rehearsal-1"  # part of every cache key: to be raised whenever the same request may get another answer
CONTEXT = 65_536  # tokens: what a 24 GB card holds with the default model, so that compaction happens where it will
MARGIN = 256  # tokens a prompt must leave free
MAX_OUTPUT = 32_000  # tokens: what Claude Code asks of a model it does not know


class RehearsalBackend:
    """Answers without a model; see the package for what they are. Implements `Backend`."""

    kind = "rehearsal"
    translates = True

    def __init__(self, config: BackendConfig, timing: Timing) -> None:
        """`timing` belongs to the seam: nothing here waits for an upstream."""
        self.node_id = config.node_id
        self.reuse = PrefixReuse()
        self._prefixes = PrefixMemory()
        context = config.context or CONTEXT
        self._model = ModelInfo(
            id=config.model or MODEL,
            digest=DIGEST,
            context=context,
            max_output=min(MAX_OUTPUT, context // 2),
            vision=True,
            tools=True,
            thinking=True,
        )

    async def start(self) -> None:
        """Nothing to load."""

    async def aclose(self) -> None:
        """Nothing to close."""

    def model(self) -> ModelInfo:
        return self._model

    def models(self) -> list[ModelInfo]:
        return [self._model]

    def find(self, name: str) -> ModelInfo | None:
        return self._model if self._model.is_called(name) else None

    async def look_up(self, name: str) -> ModelInfo | None:
        return self.find(name)

    def health(self) -> BackendHealth:
        return BackendHealth("ok", "rehearsal: no model is behind the answers")

    def estimate(self, body: dict[str, Any], model: str | None = None) -> int:
        return render(body).tokens

    async def count_tokens(self, body: dict[str, Any], model: str | None = None) -> tuple[int, bool]:
        """Exactly what `usage` will say, in this backend's own tokens (four bytes each)."""
        return self.estimate(body), True

    async def generate(self, call: Call) -> AsyncIterator[bytes]:
        """The frames of one answer.

        Raises ApiError: 400 for a directive that cannot be followed, an unusable schema or a full window.
        """
        call.served = self._model.identity
        prompt = render(call.body)
        window = self._model.context
        if prompt.tokens >= window - MARGIN:
            raise prompt_too_long(prompt.tokens, window)
        script = self._script(call.body, prompt)
        counts = self._account(prompt, script)
        async for frames in play(script, call.writer, counts, lambda: prompt_too_long(window + prompt.tokens, window)):
            yield frames

    def _script(self, body: dict[str, Any], prompt: Prompt) -> Script:
        messages = body["messages"]
        conversation = read_conversation(messages)
        answer = undirected_answer(prompt, conversation)
        if asks_for_summary(conversation.text):
            answer = summary(answer, messages)
        try:
            directives = _directives(conversation, compacted=is_continued(messages))
            return write_script(body, directives, answer, self._budget(body, prompt))
        except (DirectiveError, SchemaError) as error:
            raise ApiError(400, str(error), should_retry=False) from None

    def _budget(self, body: dict[str, Any], prompt: Prompt) -> Budget:
        asked = body.get("max_tokens")
        wanted = self._model.max_output if asked is None else asked
        left = self._model.context - prompt.tokens
        return Budget(wanted, "max_tokens") if wanted <= left else Budget(left, "model_context_window_exceeded")

    def _account(self, prompt: Prompt, script: Script) -> dict[str, int]:
        reused = self._prefixes.reuse(prompt)
        self.reuse.prompt_tokens += prompt.tokens
        self.reuse.reused_tokens += reused
        return usage(prompt.tokens - reused, script.output_tokens, cache_read=reused)


def _directives(conversation: Conversation, *, compacted: bool) -> list[Directive]:
    """What the line of this turn asks for. Every line is read at every turn, so that a mistake shows at the first.

    An overflow ends with the compaction that it is there to cause.
    """
    lines = [parse_line(line) for line in lines_of(conversation.text)]
    wanted = lines[conversation.turn] if conversation.turn < len(lines) else []
    return [directive for directive in wanted if not (compacted and isinstance(directive, Overflow))]
