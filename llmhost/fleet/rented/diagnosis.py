"""What a rented machine printed, kept before it is destroyed: without anything secret, bounded, and never a reason to fail."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from llmhost.core import secrets as kept
from llmhost.core.errors import LlmhostError
from llmhost.core.ledger import Ledger
from llmhost.core.paths import Paths
from llmhost.core.rentals import Rental
from llmhost.providers.market import Market

if TYPE_CHECKING:
    from llmhost.core.settings import Settings

FOLDER = "rented"
LINES = 400
MAX_BYTES = 256 * 1024
LAST_LINES = 5
MAX_LINE = 300
# Shorter ones would black out ordinary words.
SHORTEST_SECRET = 8
HIDDEN = "[hidden]"
# Our own tokens; what follows the word Bearer; and 64 hexadecimal digits, as an instance's own key has (vast facts §1.5), unless they
# are said to be a digest.
_SECRET = re.compile(
    rf"{re.escape(kept.TOKEN_PREFIX)}[A-Za-z0-9_-]{{16,}}"
    r"|(?<=[Bb]earer )[A-Za-z0-9._~+/=-]{8,}"
    r"|(?<!sha256:)(?<![0-9a-fA-F])[0-9a-fA-F]{64}(?![0-9a-fA-F])"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)",
    re.DOTALL,
)
_UNPRINTABLE = re.compile(r"[^\n\t\x20-\x7e\u00a0-\uffff]")


def log_path(paths: Paths, label: str) -> Path:
    """Where the log of a rental is kept."""
    return paths.log_dir / FOLDER / f"{re.sub(r'[^A-Za-z0-9._-]', '-', label)}.log"


def known_secrets(settings: Settings, ledger: Ledger, paths: Paths, *more: str | None) -> list[str]:
    """All that this installation knows and nobody else may: `more` (the account's key), what the settings hold, and the tokens."""
    own = [settings.vast_api_key, settings.redis_password, settings.redis_url, kept.read(paths.gateway_token_file)]
    found = [*more, *own, *(node.token for node in ledger.nodes())]
    return list(dict.fromkeys(secret for secret in found if secret))


def redacted(text: str, secrets: Iterable[str]) -> str:
    """The text with every one of the secrets, and whatever looks like one, taken out; without control characters."""
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= SHORTEST_SECRET:
            text = text.replace(secret, HIDDEN)
    return _UNPRINTABLE.sub("", _SECRET.sub(HIDDEN, text))


def collect(rental: Rental, market: Market, secrets: Iterable[str], paths: Paths) -> Path | None:
    """Keep what the container of a rental printed; the file (0600), None when there was nothing or it could not be had. Never raises."""
    if rental.instance_id is None:
        return None
    try:
        text = redacted(market.logs(rental.instance_id, LINES), secrets)
        return _save(log_path(paths, rental.label), text) if text.strip() else None
    except (LlmhostError, OSError):
        return None


def last_lines(path: Path | None, count: int = LAST_LINES) -> list[str]:
    """The end of what was kept, for an error's text. Never raises."""
    try:
        text = path.read_text(errors="replace") if path is not None else ""
    except OSError:
        return []
    return [line[:MAX_LINE] for line in text.splitlines() if line.strip()][-count:]


def explain(error: LlmhostError, path: Path | None) -> None:
    """Put the last words of the machine under the error's message, and where to read the rest."""
    lines = last_lines(path)
    if lines:
        words = "\n".join(f"  {line}" for line in lines)
        error.message = f"{error.message} The machine's last words ({path}):\n{words}"


def _save(path: Path, text: str) -> Path:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    data = text.encode(errors="replace")[-MAX_BYTES:]
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".log.")  # made 0600
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        os.replace(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)
    return path
