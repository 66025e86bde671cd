"""One report of a results folder: verdicts, tables, claims, figures, searches, costs, data, deviations, checklist.

HTML is one file that needs no network; Markdown says the same in words; LaTeX is an appendix. What is said is made in
studies.report once, for all three.
"""

from __future__ import annotations

from collections.abc import Callable

from hycon.errors import check_known
from studies.document import html, latex, markdown
from studies.document.blocks import Document
from studies.lookup import DEFAULT_VIEW, View
from studies.report.scope import read_scope
from studies.report.sections import document
from studies.store.run_store import RunStore

# format -> (suffix of the file, writer)
FORMATS: dict[str, tuple[str, Callable[[Document], str]]] = {
    "html": ("html", html.write),
    "md": ("md", markdown.write),
    "latex": ("tex", latex.write),
}


def report(store: RunStore, view: View = DEFAULT_VIEW, *, format: str = "html") -> str:
    """The whole text, ending in a newline; nothing is trained or written.

    Without corpus and profile: the paper's corpora; if no run is on them and all are on one other, that corpus.
    Raises UserError for an unknown format or corpus.
    """
    check_known("format", format, FORMATS)
    return FORMATS[format][1](document(read_scope(store, view)))
