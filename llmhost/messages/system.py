"""The `system` field as text: what varies from request to request without meaning anything is taken out, at its known places only."""

from __future__ import annotations

import re
from typing import Any

BILLING_PREFIX = "x-anthropic-billing-header:"
# Claude Code appends one such line a turn; it would break the prefix of the next prompt (cache facts §4.3).
TOKENS_LEFT = re.compile(r"(?:\s*<total_tokens>\d+ tokens left</total_tokens>)+\s*\Z")


def system_text(system: Any) -> str:
    """Blocks joined by a blank line, without the billing block and the trailing token counter. A string is one block."""
    if not system:
        return ""
    blocks = [system] if isinstance(system, str) else [b.get("text", "") for b in system if b.get("type") == "text"]
    text = "\n\n".join(block for block in blocks if block and not block.startswith(BILLING_PREFIX))
    return TOKENS_LEFT.sub("", text) if text.endswith(">") or text[-1:].isspace() else text
