"""The caption of a filled table in short, for a terminal: what must be known, in a few lines below the numbers.

No stand-in is left out; which rows had which search, and how cells are read, is in the whole caption.
"""

from __future__ import annotations

from collections.abc import Sequence

from hycon.data.manifest import PAPER
from studies.aggregate.cells import TableResult
from studies.aggregate.obstacles import PAPER_ENCODERS, encoder_in_words, in_words, is_paper_encoder
from studies.aggregate.robustness import coarse
from studies.document.blocks import SIGNS
from studies.document.words import DAGGER, sentence, span
from studies.statistics.cell import COMPARED, FEWEST, TOO_FEW
from studies.tables import PAPER_BUDGET

ROW_NAMES = {"glove": "GloVe", "bert": "BERT", "xlnet": "XLNet"}


def brief(result: TableResult, title: str, warnings: Sequence[str] = ()) -> tuple[str, ...]:
    """The line above the table, then two paragraphs: what was run on which data, and how to read it.

    warnings: sentences that may not be lost.
    """
    synthetic = result.corpus.synthetic
    first = f"{title} SYNTHETIC DATA." if synthetic else title
    data = ["SYNTHETIC DATA: these numbers say nothing about the paper."] if synthetic else []
    beyond = [result.table.beyond] if result.table.beyond else []
    said = (
        *data,
        *warnings,
        *beyond,
        _corpus(result),
        *map(sentence, result.notes),
        *_search(result),
        *_encoders(result),
        *coarse(result.table, result.corpus.one_row),
    )
    return first, " ".join(said), " ".join(_reading(result))


def _corpus(result: TableResult) -> str:
    sizes = result.corpus.sizes
    return f"Corpus: {corpus_in_words(result)}{f', {in_words(sizes)} utterances' if sizes else ''}."


def corpus_in_words(result: TableResult) -> str:
    """Its name, and that of the table's own corpus where it is another one: "mine (the paper: mosi)"."""
    name, own = result.corpus.name, result.table.corpus
    whose = "the paper" if own in PAPER else "the table's own"
    return name if name == own else f"{name} ({whose}: {own})"


def _search(result: TableResult) -> list[str]:
    searched = [row for row in result.rows if row.budget and not row.row.measured]
    short = [row for row in searched if row.budget != PAPER_BUDGET]
    if not short:
        return []
    budgets = {row.budget for row in searched}
    if len(budgets) == 1:
        return [f"Search: {short[0].budget} (the paper: {PAPER_BUDGET})."]
    if len(short) == len(searched):
        return [f"Search: no row as in the paper ({PAPER_BUDGET})."]
    return [f"Search: {len(short)} of {len(searched)} rows not as in the paper ({PAPER_BUDGET})."]


def _encoders(result: TableResult) -> list[str]:
    """The text encoders that are not the paper's, by front-end."""
    said = []
    for text in PAPER_ENCODERS:
        used = dict.fromkeys(row.encoder or "unknown" for row in result.rows if row.n and row.row.text == text)
        others = [name for name in used if not is_paper_encoder(text, name)]
        if others:
            papers = "" if len(others) == len(used) else " in some"
            named = ", ".join(map(encoder_in_words, others))
            said.append(sentence(f"{ROW_NAMES[text]} rows: {named}{papers}, not {PAPER_ENCODERS[text][0]}"))
    return said


def _reading(result: TableResult) -> list[str]:
    entries = [entry for row in result.rows for entry in row.cells.values()]
    counts = {row.n for row in result.rows if row.status == "measured"}
    if not counts:
        return ["No row is measured yet."]
    of = "" if result.protocol == "paper" or result.table.task == "emotion" else f", protocol {result.protocol}"
    said = [f"Cells: mean ± sd (n) of seeded runs on the test split, n = {span(counts)}{of}."]
    lower = [column.heading for column in result.table.columns if not column.higher_is_better]
    said += [f"Lower is better: {', '.join(lower)}."] if lower else []
    said += ["* best of the column."] if any(entry.best for entry in entries) else []
    said += [f"{DAGGER} quoted by the paper."] if any(entry.paper and entry.paper.quoted for entry in entries) else []
    shown = [verdict for verdict in COMPARED if any(entry.verdict == verdict for entry in entries)]
    said += [", ".join(f"{SIGNS[verdict]} {verdict}" for verdict in shown) + "."] if shown else []
    few = any(entry.verdict == TOO_FEW for entry in entries)
    said += [f"Fewer than {FEWEST} seeds: no verdict."] if few else []
    unlike = result.beside_paper and any(row.obstacles for row in result.rows)
    return said + (["Rows not run as in the paper: no verdict."] if unlike else [])
