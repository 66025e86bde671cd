"""The caption of a filled table in short, for a terminal: what must be known, in a few lines below the numbers.

No stand-in is left out; which rows had which search, and how cells are read, is in the whole caption.
"""

from __future__ import annotations

from collections.abc import Sequence

from studies.aggregate.cells import TableResult
from studies.aggregate.facts import ROW_NAMES, Facts
from studies.aggregate.obstacles import PAPER_ENCODERS, encoder_in_words, in_words, is_paper_encoder
from studies.aggregate.robustness import coarse
from studies.document.blocks import SIGNS
from studies.document.words import DAGGER, sentence, span
from studies.statistics.cell import FEWEST
from studies.tables import PAPER_BUDGET


def brief(result: TableResult, facts: Facts, title: str, warnings: Sequence[str] = ()) -> tuple[str, ...]:
    """The line above the table, then two paragraphs: what was run on which data, and how to read it.

    warnings: sentences that may not be lost.
    """
    first = f"{title} SYNTHETIC DATA." if facts.synthetic else title
    sizes = f", {in_words(result.corpus.sizes)} utterances" if result.corpus.sizes else ""
    said = (
        *facts.synthetic,
        *warnings,
        *filter(None, [result.table.beyond]),
        f"Corpus: {facts.corpus}{sizes}.",
        *map(sentence, result.notes),
        *_searches(facts),
        *_encoders(facts),
        *coarse(result.table, result.corpus.one_row),
    )
    return first, " ".join(said), " ".join(_reading(result, facts))


def _searches(facts: Facts) -> list[str]:
    searched = sum(map(len, facts.searches.values()))
    short = searched - len(facts.searches.get(PAPER_BUDGET, ()))
    if not short:
        return []
    if len(facts.searches) == 1:
        return [f"Search: {next(iter(facts.searches))} (the paper: {PAPER_BUDGET})."]
    if short == searched:
        return [f"Search: no row as in the paper ({PAPER_BUDGET})."]
    return [f"Search: {short} of {searched} rows not as in the paper ({PAPER_BUDGET})."]


def _encoders(facts: Facts) -> list[str]:
    """The text encoders that are not the paper's, by front-end."""
    said = []
    for text, (papers, _) in PAPER_ENCODERS.items():
        used = facts.encoders.get(text, {})
        others = [name for name in used if not is_paper_encoder(text, name)]
        if others:
            some = "" if len(others) == len(used) else " in some"
            said.append(f"{ROW_NAMES[text]} rows: {', '.join(map(encoder_in_words, others))}{some}, not {papers}")
    return [sentence(text) for text in said]


def _reading(result: TableResult, facts: Facts) -> list[str]:
    if not facts.counts:
        return ["No row is measured yet."]
    of = "" if result.protocol == "paper" or result.table.task == "emotion" else f", protocol {result.protocol}"
    return [
        f"Cells: mean ± sd (n) of seeded runs on the test split, n = {span(facts.counts)}{of}.",
        *facts.told(
            lower=f"Lower is better: {facts.lower}.",
            best="* best of the column.",
            quoted=f"{DAGGER} quoted by the paper.",
            verdicts=", ".join(f"{SIGNS[verdict]} {verdict}" for verdict in facts.verdicts) + ".",
            too_few=f"Fewer than {FEWEST} seeds: no verdict.",
            unlike="Rows not run as in the paper: no verdict.",
        ),
    ]
