"""mkdocs: the pages at the paths that they have in the repository, so that one relative link works here and on GitHub.

mkdocs takes docs/ for the root of the site. Here docs/data.md becomes the page docs/data, and the README above docs/
its root; what the pages link to outside docs/ comes along, Markdown as pages and everything else as files.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent
LINK = re.compile(r"\]\(([^)#\s:]+)(?:#[^)\s]*)?\)")  # neither addresses nor anchors of the same page


def on_files(files: Files, config: Any) -> Files:
    """The theme's files as they are, those of docs/ one level down, and those that they link to."""
    own = [file for file in files if file.src_dir == config.docs_dir and file.inclusion.is_included()]
    others = [file for file in files if file.src_dir != config.docs_dir]
    paths = _linked([ROOT / "README.md", *(Path(str(file.abs_src_path)) for file in own)])
    return Files([*others, *(_file(path, config) for path in paths)])


def _linked(start: list[Path]) -> list[Path]:
    """Those files and what their Markdown links to, directly or through other Markdown, inside the repository."""
    found: dict[Path, None] = {}
    waiting = list(start)
    while waiting:
        path = waiting.pop()
        if path in found or not path.is_file() or not path.is_relative_to(ROOT):
            continue
        found[path] = None
        if path.suffix == ".md":
            waiting += [(path.parent / link).resolve() for link in LINK.findall(path.read_text(encoding="utf-8"))]
    return list(found)


def _file(path: Path, config: Any) -> File:
    return File.generated(config, path.relative_to(ROOT).as_posix(), abs_src_path=str(path))
