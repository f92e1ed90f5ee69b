"""Finds the files of the top-level `templates/` folder, from a wheel as from a checkout."""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent


def template(name: str) -> str:
    """The text of a template. Raises FileNotFoundError when there is none of that name."""
    shipped = PACKAGE / "_templates"
    folder = shipped if shipped.is_dir() else PACKAGE.parent / "templates"
    return (folder / name).read_text(encoding="utf-8")
