"""The caption of a filled table: what was run, on what data, by which protocol, and how it differs from the paper."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from hycon.data.manifest import PAPER
from hycon.source import said
from studies.aggregate.brief import ROW_NAMES, brief, corpus_in_words
from studies.aggregate.cells import RowResult, TableResult
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
from studies.statistics.cell import COMPARED, FEWEST, TOO_FEW
from studies.tables import PAPER_BUDGET

LEGEND = {
    "reproduced": "reproduced (95 % interval of ours within the tolerance around the paper's)",
    "differs": "differs (interval outside it)",
    "inconclusive": "inconclusive",
}


def caption(result: TableResult) -> Caption:
    table = result.table
    entries = [entry for row in result.rows for entry in row.cells.values()]
    number = re.fullmatch(r"table(\d+)", table.name)
    title = f"{table.title} (the paper's Table {number[1]})." if number else f"{table.title}."
    rest = [*_stand_ins(result), _cells(result), *coarse(table, result.corpus.one_row)]
    lower = [column.heading for column in table.columns if not column.higher_is_better]
    if lower:
        rest.append(f"Lower is better: {', '.join(lower)}.")
    return Caption(
        " ".join(filter(None, (title, table.beyond, table.added))),
        tuple(_data(result)),
        tuple(rest),
        "best measured mean of the column." if any(entry.best for entry in entries) else "",
        tuple(_marks(result)),
        brief(result, title, code_changed(result)),
    )


def setting(result: TableResult) -> list[str]:
    """What must stand wherever the result's numbers go, in a table or a figure: data, search, encoders."""
    return [*_data(result), *_stand_ins(result)]


def _data(result: TableResult) -> list[str]:
    said = ["SYNTHETIC DATA: these numbers say nothing about the paper."] if result.corpus.synthetic else []
    sizes = _sizes(result.corpus, result.table.corpus if result.beside_paper else "")
    return [*said, f"Corpus: {corpus_in_words(result)}{sizes}."]


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


def _stand_ins(result: TableResult) -> list[str]:
    return [*code_changed(result), *map(sentence, (*result.notes, *_budgets(result))), *_encoders(result)]


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


def _budgets(result: TableResult) -> list[str]:
    """One phrase for each search that is not the paper's 50 trials, naming its rows unless all share it."""
    rows: dict[str, list[str]] = {}
    for row in result.rows:
        if row.budget and not row.row.measured:
            rows.setdefault(row.budget, []).append(row.row.name)
    return [
        f"search of {budget}{'' if len(rows) == 1 else ' for ' + ', '.join(names)} (the paper: {PAPER_BUDGET})"
        for budget, names in rows.items()
        if budget != PAPER_BUDGET
    ]


def _cells(result: TableResult) -> str:
    counts = [row.n for row in result.rows if row.status == "measured"]
    papers = "; column paper: the number that the paper prints" if result.beside_paper else ""
    if not counts:
        return f"No row is measured yet{papers}."
    metrics = f"metrics of protocol {result.protocol}"
    if result.table.task == "emotion":
        metrics = "accuracy and weighted F1 of each emotion and their averages"
    if any(column.metric == "train_seconds" for column in result.table.columns):
        metrics = "what each run cost: an epoch is the mean over those of the run, and includes its validation"
    said = f"Cells: mean ± sample standard deviation (n) over seeded runs on the test split, n = {span(counts)}"
    return f"{said}, {metrics}{papers}."


def _encoders(result: TableResult) -> list[str]:
    """One sentence for each front-end among the measured rows: its encoder, and where that is not the paper's."""
    said = []
    for text in dict.fromkeys(row.row.text for row in result.rows if row.n):
        rows: dict[str, list[str]] = {}
        for row in result.rows:
            if row.n and row.row.text == text:
                rows.setdefault(row.encoder or "unknown", []).append(row.row.name)
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


def _marks(result: TableResult) -> list[str]:
    """What the dagger and the signs mean, of those that are in the table, and why a row has none."""
    entries = [entry for row in result.rows for entry in row.cells.values()]
    said = []
    if any(entry.paper and entry.paper.quoted for entry in entries):
        said.append(f"{DAGGER} quoted by the paper from another publication.")
    shown = [verdict for verdict in COMPARED if any(entry.verdict == verdict for entry in entries)]
    if shown:
        said.append("; ".join(f"{SIGNS[verdict]} {LEGEND[verdict]}" for verdict in shown) + ".")
    if any(entry.verdict == TOO_FEW for entry in entries):
        said.append(f"Rows of fewer than {FEWEST} seeds get no verdict.")
    if result.beside_paper and any(row.obstacles for row in result.rows):
        said.append("Rows that were not run as in the paper get no verdict.")
    return said
