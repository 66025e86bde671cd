"""What the figures share: their source, their style, and how a picture becomes a file.

The same numbers give the same bytes: no dates, fixed ids, one style whatever the user's matplotlibrc says. An SVG has
its text as text, a title and a description for screen readers, no reference to anything outside itself, and ids of its
own, so that several can stand in one HTML page. Nothing here imports matplotlib at module level: it is an extra.
"""

from __future__ import annotations

import hashlib
import io
import re
import shlex
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape

from hycon.errors import UserError, install
from studies.aggregate.cells import TableResult
from studies.document.words import visible
from studies.lookup import DEFAULT_VIEW, View, options_of
from studies.store.run_store import RunStore

if TYPE_CHECKING:
    import matplotlib.figure

FORMATS = ("svg", "png", "pdf")
DPI = 200  # of a PNG: chosen here, sharp in print at the figure's own width
WIDTH = 7.16  # inches: both columns of an IEEE page
# Colours of Okabe and Ito, told apart by colour-blind readers and by their grey; marks differ too.
BLUE, ORANGE, GREY, BLACK = "#0072B2", "#D55E00", "#8A8A8A", "#222222"
PLAIN: Any = {"parse_math": False}  # for words of others (notes, names of rows and emotions): a $ is no formula
STYLE: Any = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Arial", "Helvetica", "sans-serif"],
    "font.size": 7,  # points at WIDTH; nothing is smaller than 6
    "axes.titlesize": 7,
    "axes.labelsize": 7,
    "xtick.labelsize": 6,
    "ytick.labelsize": 6,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "axes.linewidth": 0.6,
    "axes.edgecolor": GREY,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2,
    "ytick.major.size": 2,
    "svg.fonttype": "none",
    "svg.hashsalt": "hycon-bench",
    "pdf.fonttype": 42,
    "savefig.facecolor": "white",
}


@dataclass(frozen=True)
class Source:
    """What a figure is drawn from: a filled table, and the store with its runs' predictions.

    asked: whether the caller named the rows.  runs: which seeded runs to show, see studies.figures.figure.
    view: what the table was filled by, for the command that would fill more of it.
    """

    store: RunStore
    result: TableResult
    asked: bool = False
    runs: str = "median"
    view: View = DEFAULT_VIEW

    def missing(self, names: str) -> UserError:
        table, corpus = self.result.table, self.result.corpus.name
        command = shlex.join(["bench", "run", table.name, *options_of(self.view)])
        return UserError(
            f"{table.name} has no finished runs of {names} on corpus {corpus}: `{command}` makes them, or name "
            "another --corpus, --profile, --encoder or --results."
        )


@dataclass(frozen=True)
class Drawing:
    """picture: not yet saved.  caption: sentences, without those on data and setting, which are added to all figures.
    alt: what there is to see, in words.  numbers: what is plotted, a flat dict for each mark or run.
    rows: those that are shown; the caption speaks of their setting only."""

    picture: matplotlib.figure.Figure
    caption: list[str]
    alt: str
    numbers: list[dict[str, Any]]
    rows: list[str]


def check_extra() -> None:
    """Raises UserError where matplotlib or scikit-learn is not installed."""
    try:
        import matplotlib.figure  # noqa: F401
        import sklearn.manifold  # noqa: F401
    except ImportError as error:
        raise UserError(f"Figures need matplotlib and scikit-learn ({error}): {install('plots')}.") from error


@contextmanager
def style() -> Iterator[None]:
    """The suite's look, whatever was set before; what was set comes back afterwards."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        yield


def canvas(height: float) -> matplotlib.figure.Figure:
    """An empty picture of WIDTH x height inches that keeps labels and legends inside. Use within `style`."""
    from matplotlib.figure import Figure

    return Figure(figsize=(WIDTH, height), layout="constrained")


def stamp(picture: matplotlib.figure.Figure, said: str) -> None:
    """Write above the picture that its data is synthetic or not the paper's: it may be shown without its caption."""
    if said:
        lines = textwrap.fill(said, int(WIDTH / 0.05), break_on_hyphens=False)  # 6-point letters are that wide
        picture.suptitle(lines, x=0.005, ha="left", fontsize=6, color=ORANGE, **PLAIN)


def encode(picture: matplotlib.figure.Figure, format: str, name: str, title: str, alt: str) -> bytes:
    """The picture as a file's bytes. Use within `style`. name: what an SVG's ids begin with."""
    buffer = io.BytesIO()
    metadata: dict[str, dict[str, Any]] = {
        "svg": {"Date": None},
        "png": {"Software": None, "Title": title, "Description": alt},
        "pdf": {"CreationDate": None, "Title": title, "Subject": alt},
    }
    picture.savefig(buffer, format=format, dpi=DPI, metadata=metadata[format])
    if format != "svg":
        return buffer.getvalue()
    return _inlinable(buffer.getvalue().decode(), name, title, alt).encode()


def _inlinable(svg: str, name: str, title: str, alt: str) -> str:
    """Without prolog, DOCTYPE and metadata (they name addresses); with own ids, own style only, and words.

    Control characters are shown, as in all that is printed: XML forbids most of them.
    """
    svg, title, alt = map(visible, (svg, title, alt))
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    prefix = f"{name}-{hashlib.sha256((svg + title + alt).encode()).hexdigest()[:8]}"
    svg = re.sub(r"<[^>]*>", lambda tag: _own_ids(tag[0], prefix), svg)
    svg = svg.replace("*{", f"#{prefix} *{{", 1)
    words = f'<title id="{prefix}-title">{escape(title)}</title>\n<desc id="{prefix}-desc">{escape(alt)}</desc>\n'
    opening = re.match(r"<svg[^>]*>\s*", svg)
    assert opening
    tag = f'<svg id="{prefix}" role="img" aria-labelledby="{prefix}-title {prefix}-desc"{opening[0].rstrip()[4:]}\n'
    return tag + words + svg[opening.end() :]


def _own_ids(tag: str, prefix: str) -> str:
    tag = re.sub(r'(\sid=")', rf"\g<1>{prefix}-", tag)
    tag = tag.replace("url(#", f"url(#{prefix}-")
    return re.sub(r'(href="#)', rf"\g<1>{prefix}-", tag)


def wrapped(name: str, inches: float) -> str:
    """A row's name on as many lines as it needs above a panel of that width."""
    return textwrap.fill(name, max(8, int(inches / 0.062)), break_long_words=False)  # 7-point letters are that wide
