"""HTML: one file that needs no network, no foreign fonts and no scripts, and that can be read aloud.

The markup stands in templates, which escape everything that comes from data. A Content-Security-Policy allows the one
script of the report and nothing else. Figures are SVG images in data URIs: a script in one could not run, and their
ids cannot clash.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import Any

from studies.document.blocks import SIGNS, TONES, Block, Document
from studies.document.words import slug, visible


def write(document: Document) -> str:
    """The whole report, with contents, sorting and filters."""
    script = _asset("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return _render("report.html", document=document, script=script, digest=digest)


def page(title: str, blocks: Sequence[Block]) -> str:
    """Some blocks in a small page without a script."""
    return _render("page.html", title=title, blocks=blocks)


@cache
def _asset(name: str) -> str:
    return resources.files("studies.document").joinpath(name).read_text(encoding="utf-8")


def _render(template: str, **known: Any) -> str:
    return visible(_environment().get_template(template).render(style=_asset("page.css"), **known))


@cache
def _environment() -> Any:
    import jinja2  # not with this module: printing text needs none of it

    found = jinja2.Environment(
        loader=jinja2.FunctionLoader(_asset),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    found.filters["kind"] = lambda block: type(block).__name__
    found.filters["slug"] = slug
    found.filters["base64"] = lambda content: base64.b64encode(content).decode()
    found.globals |= {"SIGNS": SIGNS, "TONES": TONES}
    return found
