"""What the captions of a filled table tell, derived once: `caption` writes it out, `brief` says it in short."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hycon.data.manifest import PAPER
from studies.aggregate.cells import TableResult
from studies.statistics.cell import COMPARED, TOO_FEW

ROW_NAMES = {"glove": "GloVe", "bert": "BERT", "xlnet": "XLNet"}  # front-end -> what rows are named after
SYNTHETIC = "SYNTHETIC DATA: these numbers say nothing about the paper."


@dataclass(frozen=True)
class Facts:
    """synthetic: the warning, where it is due.  corpus: its name, and that of the table's own where it is another one.
    searches: a search in words -> the rows that have it.  encoders: front-end -> encoder -> the measured rows with it.
    counts: runs of each measured row.  lower: headings of columns where lower is better.

    Of the cells: whether one is the best of its column, or quoted by the paper; which verdicts there are; whether one
    has too few runs for a verdict.  unlike: whether a row that stands beside the paper's was not run as in the paper.
    """

    synthetic: tuple[str, ...]
    corpus: str
    searches: Mapping[str, Sequence[str]]
    encoders: Mapping[str, Mapping[str, Sequence[str]]]
    counts: Sequence[int]
    lower: str
    best: bool
    quoted: bool
    verdicts: Sequence[str]
    too_few: bool
    unlike: bool

    def told(self, **sentences: str) -> list[str]:
        """Of the sentences, those whose fact, by its name here, is so."""
        return [text for name, text in sentences.items() if getattr(self, name)]


def facts_of(result: TableResult) -> Facts:
    searches: dict[str, list[str]] = {}
    encoders: dict[str, dict[str, list[str]]] = {}
    for row in result.rows:
        if row.budget and not row.row.measured:
            searches.setdefault(row.budget, []).append(row.row.name)
        if row.n:
            encoders.setdefault(row.row.text, {}).setdefault(row.encoder or "unknown", []).append(row.row.name)
    entries = [entry for row in result.rows for entry in row.cells.values()]
    verdicts = {entry.verdict for entry in entries}
    return Facts(
        synthetic=(SYNTHETIC,) if result.corpus.synthetic else (),
        corpus=_corpus(result.corpus.name, result.table.corpus),
        searches=searches,
        encoders=encoders,
        counts=[row.n for row in result.rows if row.status == "measured"],
        lower=", ".join(column.heading for column in result.table.columns if not column.higher_is_better),
        best=any(entry.best for entry in entries),
        quoted=any(entry.paper and entry.paper.quoted for entry in entries),
        verdicts=[verdict for verdict in COMPARED if verdict in verdicts],
        too_few=TOO_FEW in verdicts,
        unlike=result.beside_paper and any(row.obstacles for row in result.rows),
    )


def _corpus(name: str, tables: str) -> str:
    """ "mine (the paper: mosi)"."""
    whose = "the paper" if tables in PAPER else "the table's own"
    return name if name == tables else f"{name} ({whose}: {tables})"
