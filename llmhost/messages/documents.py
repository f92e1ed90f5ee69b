"""The text of PDF documents, for models that read none."""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
import logging
from collections import OrderedDict

KEPT_DOCUMENTS = 16
KEPT_CHARACTERS = 4_000_000


def pdf_text(data: str) -> str:
    """The text of a base64 PDF, every page headed `[page N]`; "" when it cannot be read or holds no text. Slow: a second for a long one."""
    try:
        content = base64.b64decode(data)
    except (binascii.Error, ValueError):
        return ""
    pages = _pages(content)
    return "\n\n".join(f"[page {number}]\n{text}" for number, text in enumerate(pages, 1)) if any(pages) else ""


def _pages(content: bytes) -> list[str]:
    from pypdf import PdfReader  # 60 ms of import that most requests never need

    # It reports every flaw it repaired, which no one here can act on.
    logging.getLogger("pypdf").setLevel(logging.CRITICAL)
    try:
        return [page.extract_text().strip() for page in PdfReader(io.BytesIO(content)).pages]
    except Exception:  # noqa: BLE001  a broken file makes pypdf raise nearly anything: KeyError, RecursionError, its own errors
        return []


class PdfShelf:
    """Texts of PDFs already read, so that a document costs its extraction once and not once a turn."""

    def __init__(self) -> None:
        self._texts: OrderedDict[bytes, str] = OrderedDict()
        self._characters = 0

    def get(self, data: str) -> str | None:
        """The text if this document was read before."""
        key = _key(data)
        text = self._texts.get(key)
        if text is not None:
            self._texts.move_to_end(key)
        return text

    def read(self, data: str) -> str:
        """The text, extracted now unless it is known. Run it in a thread."""
        text = self.get(data)
        if text is None:
            text = pdf_text(data)
            self._keep(_key(data), text)
        return text

    def _keep(self, key: bytes, text: str) -> None:
        self._texts[key] = text
        self._characters += len(text)
        while len(self._texts) > KEPT_DOCUMENTS or (self._characters > KEPT_CHARACTERS and len(self._texts) > 1):
            self._characters -= len(self._texts.popitem(last=False)[1])


def _key(data: str) -> bytes:
    return hashlib.blake2b(data.encode(), digest_size=16).digest()
