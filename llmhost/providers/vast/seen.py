"""What searches found a moment ago, so that looking again is no search: the market allows few of them (vast facts §4.4)."""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
import time
from pathlib import Path
from typing import Any

from llmhost.providers.vast.shared_file import held

# Seconds that an answer stays good, times the pace.
FRESH_S = 60.0
# 64 rows of some 2 kB on each of 6 pages, twice over.
FILE_BYTES = 2_000_000
MOST = 8
Rows = list[Any]


class Seen:
    """Answers by query, for one account named by a digest. Kept in `folder`, and in this process alone when that cannot be used."""

    def __init__(self, account: str, folder: Path | None, factor: float) -> None:
        self._account, self._folder, self._fresh_s = account, folder, FRESH_S * factor
        self._lock = threading.Lock()
        self._here: dict[str, tuple[float, Rows]] = {}

    def rows(self, query: dict[str, Any]) -> Rows | None:
        """Those found for an equal query; None = search."""
        name = self._name(query)
        with self._lock, held(self._path(name), FILE_BYTES) as file:
            at, rows = self._here.get(name, (0.0, [])) if file is None else _entry(file.read())
        self._tidy()
        return rows if 0 <= time.time() - at < self._fresh_s else None

    def keep(self, query: dict[str, Any], rows: Rows, at: float) -> None:
        """`at` is when the search began, in seconds since 1970."""
        name = self._name(query)
        with self._lock, held(self._path(name), FILE_BYTES) as file:
            if file is None:
                self._here[name] = (at, rows)
                self._here = dict(sorted(self._here.items(), key=lambda each: each[1][0])[-MOST:])
            else:
                file.write({"at": at, "rows": rows})

    def forget(self) -> None:
        """Something was ordered: the next look must not show what is gone."""
        with self._lock:
            self._here.clear()
        for each in self._files(f"search-{self._account}-*.json"):
            with contextlib.suppress(OSError):
                each.unlink()

    def _name(self, query: dict[str, Any]) -> str:
        text = json.dumps(query, sort_keys=True).encode()
        return f"search-{self._account}-{hashlib.blake2b(text, digest_size=8).hexdigest()}.json"

    def _path(self, name: str) -> Path | None:
        return self._folder / name if self._folder is not None and self._fresh_s > 0 else None

    def _tidy(self) -> None:
        """Keep the latest few, of whatever account."""
        for each in sorted(self._files("search-*.json"), key=_changed_at)[:-MOST]:
            with contextlib.suppress(OSError):
                each.unlink()

    def _files(self, pattern: str) -> list[Path]:
        try:
            return list(self._folder.glob(pattern)) if self._folder is not None else []
        except OSError:
            return []


def _entry(data: Any) -> tuple[float, Rows]:
    """When and what; nothing, long ago, for a file that is none of ours."""
    fields = data if isinstance(data, dict) else {}
    at, rows = fields.get("at"), fields.get("rows")
    return (at, rows) if isinstance(at, float) and isinstance(rows, list) else (0.0, [])


def _changed_at(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
