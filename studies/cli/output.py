"""What commands print, and the files that they write."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from hycon.errors import UserError
from studies.cli.terminal import columns, terminal_columns

ENDINGS = {  # of a file -> its format
    **{".txt": "text", ".md": "md", ".tex": "latex", ".csv": "csv", ".html": "html", ".json": "json"},
    **{".svg": "svg", ".png": "png", ".pdf": "pdf"},
}


def print_json(value: Any) -> None:
    print(json.dumps(value, indent=1, ensure_ascii=False))


def print_grid(items: Sequence[Mapping[str, Any]]) -> None:
    """Flat dicts, a line each, under the keys that any of them has; a paragraph each where a terminal is too narrow."""
    from studies.document.blocks import headings
    from studies.document.text import listing

    def plain(value: Any) -> str:
        if isinstance(value, list | tuple):
            return ", ".join(map(str, value))
        return "" if value is None else str(round(value, 4) if isinstance(value, float) else value)

    heads = list(dict.fromkeys(key for item in items for key in item))
    rows = [[plain(item.get(head)) for head in heads] for item in items]
    print(listing(headings(*heads), rows, terminal_columns()))


def layout(options) -> dict[str, Any]:
    """How a table of results is laid out as text: to fit the terminal, or a file's usual width."""
    from studies.document.text import WIDTH

    width = WIDTH if getattr(options, "output", None) else columns()
    return {"width": width, "notes": getattr(options, "notes", False)}


def format_by_name(file: str | None, formats: Collection[str], otherwise: str) -> str:
    """The one of `formats` that a file's ending names; `otherwise` without a file or an ending.

    Raises UserError for any other ending: a file is never of another kind than its name says.
    """
    ending = Path(file or "").suffix.lower()
    found = ENDINGS.get(ending, "") if ending else otherwise
    if found not in formats:
        known = ", ".join(end for end, format in ENDINGS.items() if format in formats)
        raise UserError(f"{file} ends in {ending}; expected one of {known}, or give --format.")
    return found


def write_output(text: str, file: str | None) -> None:
    """To `file`, whole or not at all, or to the terminal."""
    if file is None:
        print(text.rstrip("\n"))
    else:
        write_file(Path(file), (text.rstrip("\n") + "\n").encode())


def write_file(file: Path, content: bytes, *, folder: bool = False) -> None:
    """Whole or not at all. folder: make its folder first. Raises UserError where it cannot be written."""
    from hycon.files import write_atomic

    try:
        if folder:
            file.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(file, content)
    except OSError as error:
        raise UserError(f"Cannot write {file}: {error.strerror or error}.") from error
