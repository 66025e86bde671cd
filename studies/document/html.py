"""The report as one HTML file: no network, no foreign fonts or scripts, readable without scripts and aloud.

Everything that comes from data is escaped here, and a Content-Security-Policy allows the one script below and nothing
else. Figures are SVG images in data URIs: a script in one could not run, and their ids cannot clash.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Sequence
from functools import cache
from html import escape
from importlib import resources
from typing import Any

from studies.aggregate.caption import MARKS, caption
from studies.aggregate.render import Cell, body, headings, notes
from studies.document.blocks import (
    TONES,
    Bullets,
    Counts,
    Document,
    Fold,
    Grid,
    Heading,
    Notice,
    Part,
    Picture,
    Results,
    Section,
    Text,
)

# Beside the word, so that no verdict is told by colour alone. Those of cells are the marks of `bench table`.
SIGNS = {
    **MARKS,
    **dict.fromkeys(("supported", "consistent", "complete"), "✓"),
    **dict.fromkeys(("contradicted", "missing"), "✗"),
    **dict.fromkeys(("undecided", "partial"), "?"),
}
UPFRONT = ("SYNTHETIC DATA", "Corpus:")  # how the sentences of studies.aggregate.caption on the data begin


def write(document: Document) -> str:
    """The whole page."""
    style, script = _asset("page.css"), _asset("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    sections = "".join(_section(section) for section in document.sections)
    banner = "".join(map(_block, document.banner))
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n<link rel="icon" href="data:,">\n'
        f"<title>{escape(document.title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n"
        '<a class="skip" href="#main">Skip to the report</a>\n'
        f"<header>\n<h1>{escape(document.title)}</h1>\n<p>{escape(document.lead)}</p>\n"
        + (f'<div class="banner" role="note" aria-label="Read this first">\n{banner}</div>\n' if banner else "")
        + f'</header>\n{_navigation(document.sections)}<main id="main" tabindex="-1">\n{sections}</main>\n'
        f"<script>{script}</script>\n</body>\n</html>\n"
    )


@cache
def _asset(name: str) -> str:
    return resources.files("studies.document").joinpath(name).read_text(encoding="utf-8")


def slug(text: str) -> str:
    """An id that needs no escaping, whatever the data called itself."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", text)


def _navigation(sections: Sequence[Section]) -> str:
    def link(item: Section | Part) -> str:
        return f'<a href="#{slug(item.id)}">{escape(item.title)}</a>'

    def entry(section: Section) -> str:
        parts = [block for block in section.blocks if isinstance(block, Part)] if section.id == "tables" else []
        inner = "".join(f"<li>{link(part)}</li>" for part in parts)
        return f"<li>{link(section)}{f'<ul>{inner}</ul>' if inner else ''}</li>\n"

    return f'<nav aria-label="Contents">\n<ul>\n{"".join(map(entry, sections))}</ul>\n</nav>\n'


def _section(section: Section) -> str:
    inside = "".join(map(_block, section.blocks))
    id = slug(section.id)
    title = f'<h2 id="{id}-title">{escape(section.title)}</h2>'
    return f'<section id="{id}" aria-labelledby="{id}-title">\n{title}\n{inside}</section>\n'


# ------------------------------------------------------------------------------------------------- blocks


def _block(block: Any) -> str:
    return WRITERS[type(block)](block)


def _text(block: Text) -> str:
    return f"<p>{escape(block.text)}</p>\n"


def _notice(block: Notice) -> str:
    return f'<p class="notice"><strong>{escape(block.text)}</strong></p>\n'


def _bullets(block: Bullets) -> str:
    return f"<ul>\n{''.join(f'<li>{escape(item)}</li>' for item in block.items)}\n</ul>\n"


def _counts(block: Counts) -> str:
    items = "".join(
        f'<li class="{TONES.get(verdict, "none")}{"" if n else " zero"}"><b>{n}</b> '
        f"<span>{escape(verdict)}{_sign(verdict)}</span></li>"
        for verdict, n in block.counts
    )
    return f'<p class="counted">{escape(block.label)}:</p>\n<ul class="counts">{items}</ul>\n'


def _part(block: Part) -> str:
    inside = "".join(map(_block, block.blocks))
    return f'<h3 id="{slug(block.id)}">{escape(block.title)}</h3>\n{inside}'


def _fold(block: Fold) -> str:
    inside = "".join(map(_block, block.blocks))
    mark = badge(block.verdict) + " " if block.verdict else ""
    return (
        f'<details id="{slug(block.id)}"><summary>{mark}{escape(block.summary)}</summary>\n'
        f'<div class="inside">\n{inside}</div></details>\n'
    )


def _picture(block: Picture) -> str:
    figure = block.figure
    source = base64.b64encode(figure.content).decode()
    return (
        f'<figure><img src="data:image/svg+xml;base64,{source}" alt="{escape(figure.alt)}">'
        f"<figcaption>{escape(figure.caption)}</figcaption></figure>\n"
    )


def badge(verdict: str) -> str:
    return f'<span class="badge {TONES.get(verdict, "none")}">{escape(verdict)}{_sign(verdict)}</span>'


def _sign(verdict: str) -> str:
    return f' <span aria-hidden="true">{SIGNS[verdict]}</span>' if verdict in SIGNS else ""


# ------------------------------------------------------------------------------------------------- tables


def _grid(grid: Grid) -> str:
    links = grid.links or ("",) * len(grid.rows)
    rows = "".join(
        f"<tr>{''.join(_grid_cell(grid.headings[i], text, i, link) for i, text in enumerate(row))}</tr>\n"
        for row, link in zip(grid.rows, links, strict=True)
    )
    return _table(grid.id, (grid.caption,), "".join(map(_head, grid.headings)), rows)


def _head(heading: Heading) -> str:
    return f'<th scope="col"{_classes(heading)}>{escape(heading.text)}</th>'


def _grid_cell(heading: Heading, text: str, index: int, link: str) -> str:
    if index == 0:
        name = f'<a href="#{slug(link)}">{escape(text)}</a>' if link else escape(text)
        return f'<th scope="row"{_classes(heading)}>{name}</th>'
    return f"<td{_classes(heading)}>{badge(text) if heading.badge else escape(text)}</td>"


def _classes(heading: Heading) -> str:
    names = [name for name in ("number", "wide") if getattr(heading, name)]
    return f' class="{" ".join(names)}"' if names else ""


def _results(block: Results) -> str:
    """Ours and the paper's number in neighbouring columns; the contents are those of every other format."""
    result = block.result
    names = headings(result)
    head = f'<th scope="col">{escape(names[0])}</th>'
    for column in result.table.columns:
        ours = escape(column.heading)
        head += f'<th scope="col" class="number ours">{ours}</th>'
        if not result.table.beyond:
            head += f'<th scope="col" class="number paper"><span class="unseen">{ours}, </span>paper</th>'
    head += f'<th scope="col">{escape(names[-1])}</th>'
    rows = "".join(f"<tr>{''.join(map(_result_cell, line, range(len(line))))}</tr>\n" for line in body(result))
    below = "".join(f"<li>{escape(note)}</li>" for note in notes(result))
    return _table(result.table.name, caption(result), head, rows) + (
        f'<ul class="notes">{below}</ul>\n' if below else ""
    )


def _result_cell(cell: Cell, index: int) -> str:
    if index == 0:
        return f'<th scope="row">{escape(cell.text)}</th>'
    verdict, _, size = cell.hint.partition(":")  # direction and size, where the hint has them, are a tooltip and aloud
    if verdict in MARKS:
        number = escape(cell.text.removesuffix(MARKS[verdict]).rstrip())
        title = f' title="{escape(cell.hint)}"' if size else ""
        aloud = f'<span class="unseen">{escape(size)}</span>' if size else ""
        return f'<td class="number paper"{title}>{number} {badge(verdict)}{aloud}</td>'
    if cell.hint:
        return f'<td class="number paper" title="{escape(cell.hint)}">{escape(cell.text)}</td>'
    return f'<td class="number">{f"<b>{escape(cell.text)}</b>" if cell.best else escape(cell.text)}</td>'


def _table(id: str, said: Sequence[str], head: str, rows: str) -> str:
    """A table in a box of its own that scrolls. Its caption is the first sentence and, so that nobody misses them,
    those on the data; the others describe it below."""
    id = slug(id)
    top = [sentence for i, sentence in enumerate(said) if not i or sentence.startswith(UPFRONT)]
    more = escape(" ".join(sentence for sentence in said if sentence not in top))
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-labelledby="{id}-caption">\n'
        f'<table id="{id}"{f" aria-describedby={chr(34)}{id}-said{chr(34)}" if more else ""}>\n'
        f'<caption><span id="{id}-caption">{escape(" ".join(top))}</span></caption>\n<thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{rows}</tbody>\n</table>\n</div>\n"
        + (f'<p id="{id}-said" class="said">{more}</p>\n' if more else "")
    )


WRITERS: dict[type, Callable[[Any], str]] = {
    Text: _text,
    Notice: _notice,
    Bullets: _bullets,
    Counts: _counts,
    Grid: _grid,
    Results: _results,
    Picture: _picture,
    Fold: _fold,
    Part: _part,
}
