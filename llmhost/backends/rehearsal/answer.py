"""What the rehearsal says when nobody directs it: that no model is behind it, and what of the prompt reached it."""

from __future__ import annotations

from llmhost.backends.rehearsal.conversation import Conversation
from llmhost.backends.rehearsal.prompt import Prompt

EXCERPT = 160  # characters: enough to recognise one's own words
DIGEST = 12  # hex digits: two prompts of one user do not share them by chance


def undirected_answer(prompt: Prompt, conversation: Conversation) -> str:
    """The same for equal prompts, another for different ones."""
    parts = [
        "This is llmhost's rehearsal backend: no model is behind this answer.",
        f"Your prompt reached it (about {prompt.tokens} tokens, fingerprint {prompt.digest[:DIGEST]}).",
    ]
    if conversation.text:
        parts.append(f'You wrote: "{excerpt(conversation.text)}"')
    parts.extend(f'A tool answered: "{excerpt(result)}"' for result in conversation.results if result)
    if conversation.images:
        parts.append(f"Images with the last message: {conversation.images}.")
    return "\n".join(parts)


def excerpt(text: str) -> str:
    """The beginning of a text on one line, so that a quoted directive is not at the start of a line again."""
    line = " ".join(text.split())
    return line if len(line) <= EXCERPT else f"{line[: EXCERPT - 1]}…"
