"""The caption of a filled table: what was run, on what data, by which protocol, and how it differs from the paper."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from hycon.data.manifest import PAPER
from hycon.source import said
from studies.aggregate.brief import brief
from studies.aggregate.cells import RowResult, TableResult
from studies.aggregate.facts import ROW_NAMES, Facts, facts_of
from studies.aggregate.obstacles import (
    ALLOWED_SIZES,
    PAPER_ENCODERS,
    CorpusInfo,
    encoder_in_words,
    in_words,
    is_paper_encoder,
)
from studies.aggregate.robustness import coarse
from studies.document.blocks import SIGNS, Caption
from studies.document.words import DAGGER, sentence, span
from studies.statistics.cell import FEWEST
from studies.tables import PAPER_BUDGET

LEGEND = {
    "reproduced": "reproduced (95 % interval of ours within the tolerance around the paper's)",
    "differs": "differs (interval outside it)",
    "inconclusive": "inconclusive",
}


def caption(result: TableResult) -> Caption:
    table, facts = result.table, facts_of(result)
    number = re.fullmatch(r"table(\d+)", table.name)
    title = f"{table.title} (the paper's Table {number[1]})." if number else f"{table.title}."
    rest = [*_stand_ins(result, facts), _cells(result, facts), *coarse(table, result.corpus.one_row)]
    if facts.lower:
        rest.append(f"Lower is better: {facts.lower}.")
    return Caption(
        " ".join(filter(None, (title, table.beyond, table.added))),
        _data(result, facts),
        tuple(rest),
        "best measured mean of the column." if facts.best else "",
        tuple(_marks(facts)),
        brief(result, facts, title, code_changed(result)),
    )


def setting(result: TableResult) -> list[str]:
    """What must stand wherever the result's numbers go, in a table or a figure: data, search, encoders."""
    facts = facts_of(result)
    return [*_data(result, facts), *_stand_ins(result, facts)]


def _data(result: TableResult, facts: Facts) -> tuple[str, ...]:
    sizes = _sizes(result.corpus, result.table.corpus if result.beside_paper else "")
    return (*facts.synthetic, f"Corpus: {facts.corpus}{sizes}.")


def _sizes(corpus: CorpusInfo, papers: str) -> str:
    """Of the splits, and how far they are from the paper's: ", 1284/229/686 utterances"."""
    if corpus.sizes is None:
        return ""
    said = f", {in_words(corpus.sizes)} utterances for training, validation and test"
    wanted = PAPER[papers]["sizes"] if papers in PAPER else None
    if corpus.synthetic or wanted is None or corpus.sizes == wanted:
        return said
    allowed = ALLOWED_SIZES.get(papers, {}).get(corpus.sizes)
    return f"{said} (the paper: {in_words(wanted)}{f'; {allowed}' if allowed else ''})"


def _stand_ins(result: TableResult, facts: Facts) -> list[str]:
    return [*code_changed(result), *map(sentence, (*result.notes, *_searches(facts))), *_encoders(facts)]


def code_changed(result: TableResult) -> list[str]:
    """`changed_since` of the measured rows of a table."""
    return changed_since({_partly(row): row.changed_code for row in result.rows if row.records})


def changed_since(files: Mapping[str, Sequence[str]]) -> list[str]:
    """One sentence, where code has changed since runs were made and no version was raised.

    files: measured row -> its `changed_code`.
    """
    if not any(files.values()):
        return []
    return [
        f"CODE HAS CHANGED since these runs were made, and no VERSION was raised: {said(files, 'all rows')}; "
        "`bench verify RUN` says whether the numbers move."
    ]


def _partly(row: RowResult) -> str:
    some = f", {len(row.changed)} of {len(row.records)} runs" if 0 < len(row.changed) < len(row.records) else ""
    return row.row.name + some


def _searches(facts: Facts) -> list[str]:
    """One phrase for each search that is not the paper's 50 trials, naming its rows unless all share it."""
    alike = len(facts.searches) == 1
    return [
        f"search of {search}{'' if alike else ' for ' + ', '.join(rows)} (the paper: {PAPER_BUDGET})"
        for search, rows in facts.searches.items()
        if search != PAPER_BUDGET
    ]


def _cells(result: TableResult, facts: Facts) -> str:
    papers = "; column paper: the number that the paper prints" if result.beside_paper else ""
    if not facts.counts:
        return f"No row is measured yet{papers}."
    metrics = f"metrics of protocol {result.protocol}"
    if result.table.task == "emotion":
        metrics = "accuracy and weighted F1 of each emotion and their averages"
    if any(column.metric == "train_seconds" for column in result.table.columns):
        metrics = "what each run cost: an epoch is the mean over those of the run, and includes its validation"
    said = f"Cells: mean ± sample standard deviation (n) over seeded runs on the test split, n = {span(facts.counts)}"
    return f"{said}, {metrics}{papers}."


def _encoders(facts: Facts) -> list[str]:
    """One sentence for each front-end among the measured rows: its encoder, and where that is not the paper's."""
    said = []
    for text, rows in facts.encoders.items():
        papers = PAPER_ENCODERS[text][0] if text in PAPER_ENCODERS else ""
        if len(rows) > 1:
            used = ", ".join(f"{encoder_in_words(name)} ({', '.join(names)})" for name, names in rows.items())
            used += f"; the paper's is {papers}" if papers else ""
        else:
            only = next(iter(rows))
            used = encoder_in_words(only) + ("" if is_paper_encoder(text, only) or not papers else f", not {papers}")
        if text == "features":
            said.append("Text in the features rows: the vectors that came with the corpus.")
            continue
        kind = "word vectors" if text == "glove" else "text encoder"
        said.append(sentence(f"{kind} in the {ROW_NAMES.get(text, text)} rows: {used}"))
    return said


def _marks(facts: Facts) -> list[str]:
    """What the dagger and the signs mean, of those that are in the table, and why a row has none."""
    return facts.told(
        quoted=f"{DAGGER} quoted by the paper from another publication.",
        verdicts="; ".join(f"{SIGNS[verdict]} {LEGEND[verdict]}" for verdict in facts.verdicts) + ".",
        too_few=f"Rows of fewer than {FEWEST} seeds get no verdict.",
        unlike="Rows that were not run as in the paper get no verdict.",
    )
