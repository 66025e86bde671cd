"""Filled tables: our runs beside the paper's numbers, with a verdict for each cell or the reason why there is none.

The tables themselves are data, in studies.tables.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from hycon.data.repeats import percent, remarks
from hycon.metrics import of_protocol
from studies.aggregate.obstacles import (
    CorpusInfo,
    beside_paper,
    distinct,
    earlier_protocol,
    encoder_of,
    obstacles,
    sizes_of,
)
from studies.aggregate.robustness import EMOTIONS, flat, of_split, robust_measures, undisturbed
from studies.paper import PaperValue, paper_value
from studies.statistics.cell import CellStat, cell, range_of, tolerance_of, verdict
from studies.statistics.spread import PARTS, spread
from studies.store.record import RunRecord
from studies.tables import WINNER, Column, Row, TableSpec, searched_row

if TYPE_CHECKING:
    from hycon.data.manifest import Manifest

NOT_RUN = "not run yet"  # the reason of a row without any study
UNKNOWN = "not known: the corpus is not imported here, or has changed since"
CLASSES = ("acc7", "acc5", "acc3")  # columns of more than two classes
WORDLESS = 0.05  # share of the words said, chosen here: GloVe lacks 1 % of CMU-MOSI's
CONSTANT = "the best constant by the train split: its majority sign (Acc2, F1), commonest class (Acc7), median (MAE)"


@dataclass(frozen=True)
class Entry:
    """One cell. stat: None where nothing was measured.  All numbers in the paper's units."""

    stat: CellStat | None
    paper: PaperValue | None
    verdict: str  # one of studies.statistics.cell.VERDICTS, or "quoted"
    best: bool = False


@dataclass(frozen=True)
class RowResult:
    """status: measured | quoted | missing | failed, or reference: a line to read the others against, not a model.
    reason: why not measured, or what is short of a full measurement.
    encoder: what served as the text encoder.  obstacles: why the row cannot be compared with the paper's.
    study: the id of the study that fills it.  changed: run id -> files of its code that have changed since, where no
    version was raised."""

    row: Row
    status: str
    reason: str
    n: int
    cells: Mapping[str, Entry]
    encoder: str | None = None
    obstacles: tuple[str, ...] = ()
    records: tuple[RunRecord, ...] = ()  # the finished runs behind the cells
    budget: str = ""  # of the search, in words
    study: str | None = None
    changed: Mapping[str, Sequence[str]] = field(default_factory=dict)
    failed: int = 0  # seeded runs that failed, and are in no number
    origin: str = ""  # the folder beside this one that the runs are of, all or some (--with)

    @property
    def changed_code(self) -> list[str]:
        """The files of `changed`, each once."""
        return sorted({name for names in self.changed.values() for name in names})


@dataclass(frozen=True)
class TableResult:
    table: TableSpec
    corpus: CorpusInfo
    protocol: str
    rows: tuple[RowResult, ...]
    notes: tuple[str, ...] = ()  # the corpus's and the records'

    @property
    def beside_paper(self) -> bool:
        """Whether the paper's numbers stand beside ours."""
        return beside_paper(self.table, self.corpus)


def corpus_info(manifest: Manifest, constant: Mapping[str, Mapping[str, float]] | None = None) -> CorpusInfo:
    """What captions say of an imported corpus. constant: as in CorpusInfo, where the manifest does not hold it."""
    vectors = manifest.vectors
    encoders = {"glove": f"{vectors.get('file')} ({vectors.get('dim')}-d{_unknown(vectors)})"} if vectors else {}
    if not vectors and manifest.own_glove:
        encoders = {"glove": f"the corpus's own GloVe ({manifest.dims['text']}-d)"}
    return CorpusInfo(
        manifest.name,
        distinct((*manifest.notes, *remarks(manifest))),
        manifest.synthetic,
        encoders,
        sizes_of(manifest.sizes),
        _commoner_answers(manifest) or manifest.constant or constant,
        tuple(m for m in ("audio", "vision") if _one_row((manifest.repeats or {}).get(m, {}).get("test", {}))),
    )


def _unknown(vectors: Mapping[str, Any]) -> str:
    """What stands behind the dimension where more than WORDLESS of the corpus's words have no vector."""
    tokens = vectors.get("tokens") or {}
    share = tokens.get("missing", 0) / max(1, sum(tokens.values()))
    return f", none for {percent(share)} of the words" if share > WORDLESS else ""


def _one_row(counts: Mapping[str, int]) -> bool:
    """Whether a split has one row of a modality an utterance; counts: of hycon.data.repeats."""
    return 0 < counts.get("utterances", 0) == counts.get("rows")


def _commoner_answers(manifest: Manifest) -> dict[str, dict[str, float]] | None:
    """None where the manifest does not count its labels: it is of no emotion corpus, or older than these counts."""
    from hycon.metrics import majority_of_counts

    emotions, count = manifest.emotions, manifest.sizes.get("test", 0)
    positives = (manifest.positives or {}).get("test", [])
    if not emotions or not count or len(positives) != len(emotions):
        return None
    return {EMOTIONS: flat(majority_of_counts(positives, count, emotions))}


def assemble(
    table: TableSpec,
    records_by_row: Mapping[str, Sequence[RunRecord]],
    status_by_row: Mapping[str, tuple[str, str]],
    *,
    corpus: CorpusInfo,
    protocol: str = "paper",
    budgets: Mapping[str, str] | None = None,
    winners: Mapping[str, float] | None = None,
) -> TableResult:
    """Fill `table`.

    records_by_row: row name -> its seeded runs; failed ones are not counted.  status_by_row: row name -> (status,
    reason) for rows without a finished run, or a reason to print beside one that is short of runs.  budgets: row name
    -> the search's, in words, such as "3 trials"; another one than the paper's rules that row's verdicts out.
    winners: row name -> the validation loss that its search chose by, for tables with that column.
    Raises ValueError for a name that is no row of the table: a misspelt row would silently stay empty.
    """
    unknown = {*records_by_row, *status_by_row} - {row.name for row in table.rows}
    if unknown:
        raise ValueError(f"not rows of {table.name}: {sorted(unknown)}")
    done = [record for records in records_by_row.values() for record in records if record.status == "done"]
    earlier = earlier_protocol(done)
    notes = distinct((*corpus.notes, *earlier, *(note for record in done for note in record.notes)))
    rows = [
        _row(
            table,
            row,
            records_by_row.get(row.name, ()),
            status_by_row.get(row.name),
            corpus,
            protocol,
            (budgets or {}).get(row.name, ""),
            (winners or {}).get(row.name),
        )
        for row in table.rows
    ]
    below = (*_spreads(table, rows), *_constant(table, done, corpus, protocol))
    marked = rows if table.studies > 1 else _mark_best(table, rows)  # studies of one row are no contest
    return TableResult(table, corpus, protocol, (*marked, *below), notes)


def _row(
    table: TableSpec,
    row: Row,
    records: Sequence[RunRecord],
    given: tuple[str, str] | None,
    corpus: CorpusInfo,
    protocol: str,
    budget: str,
    winner: float | None,
) -> RowResult:
    done = [record for record in records if record.status == "done"]
    known = beside_paper(table, corpus)
    status, reason = _status(records, given, quoted=row.quoted and known)
    against = obstacles(table, row, done, corpus, protocol, budget) if done else ()
    cells = {}
    for column in table.columns:
        paper = paper_value(table.name, table.corpus, row.name, column.metric) if known else None
        stat = _stat(done, protocol, column)
        if column == WINNER and winner is not None:
            stat = cell([column.scale * winner])
        if stat is None:
            found = "quoted" if status == "quoted" else "not run"
        elif against:
            found = "not comparable"
        else:
            found = verdict(stat, paper.value if paper else None, tolerance_of(column.metric))
        cells[column.metric] = Entry(stat, paper, found)
    encoder, failed = encoder_of(row, done, corpus) if done else None, len(records) - len(done)
    budget = budget if done else ""
    return RowResult(row, status, reason, len(done), cells, encoder, against, tuple(done), budget, failed=failed)


def _status(records: Sequence[RunRecord], given: tuple[str, str] | None, quoted: bool) -> tuple[str, str]:
    """Finished runs decide; then what the caller knows; then what the row is. Failures among the runs are counted."""
    failures = [record for record in records if record.status != "done"]
    first = failures[0].reason or "no reason recorded" if failures else ""
    status, reason = given or ("", "")
    if len(failures) < len(records):
        told = f"{len(failures)} of {len(records)} runs failed: {first}" if failures else ""
        return "measured", "; ".join(filter(None, (told, reason)))
    if status == "failed" or (failures and not status):
        return "failed", reason or first
    if quoted:
        return "quoted", reason
    return status or "missing", reason or NOT_RUN


def _stat(records: Sequence[RunRecord], protocol: str, column: Column) -> CellStat | None:
    found = [measures(record, protocol).get(column.metric) for record in records]
    values = [column.scale * value for value in found if value is not None]
    return cell(values, range_of(column.metric)) if values else None


def measures(record: RunRecord, protocol: str, split: str = "test") -> dict[str, Any]:
    """What columns can show of a run: metrics of the split, as fractions (those of `protocol`, or for emotions
    "happy_acc" and so on), its robustness (on the test split), and what it cost: parameters, seconds,
    MiB."""
    found: Mapping[str, Any] = record.metrics.get(split, {})
    metrics = of_split(found, protocol)
    robust = robust_measures(record, protocol, metrics) if split == "test" else {}
    cost = {
        "parameters": record.parameters,
        "train_seconds": record.seconds,
        "seconds_per_epoch": record.seconds_per_epoch,
        "test_seconds": record.test_seconds,
        "peak_memory_mib": record.peak_memory_mib,
    }
    return {**metrics, **cost, **robust}


def _constant(
    table: TableSpec, records: Sequence[RunRecord], corpus: CorpusInfo, protocol: str
) -> tuple[RowResult, ...]:
    """The line below a table of predictions: what one that never changes would reach. From the labels, so n = 0."""
    emotion = table.task == "emotion"
    if not emotion and not any(column.metric == "acc2" for column in table.columns):
        return ()  # of costs
    tests: list[Mapping[str, Any]] = [record.metrics.get("test", {}) for record in records] if emotion else []
    lines = [flat(test["majority"]) for test in tests if "majority" in test]
    known = lines[0] if lines else of_protocol(corpus.constant or {}, EMOTIONS if emotion else protocol)
    alike = {c: known.get(undisturbed(c.metric)) for c in table.columns}  # no condition moves a constant
    values = {c.metric: None if value is None else c.scale * value for c, value in alike.items()}
    said = CONSTANT.replace("Acc7", ", ".join(c.heading for c in table.columns if c.metric in CLASSES) or "Acc7")
    name, reason = ("Majority class", "always the commoner answer") if emotion else ("Constant prediction", said)
    return (_reference(name, reason + ("" if known else f", {UNKNOWN}"), values),)


def _spreads(table: TableSpec, rows: Sequence[RowResult]) -> tuple[RowResult, ...]:
    """Below a table of repeated searches: the spread between a row's studies and within them. Rows with fewer than two
    finished studies get no line."""
    found = []
    for name in dict.fromkeys(searched_row(row.row) for row in rows) if table.studies > 1 else ():
        same = [row for row in rows if searched_row(row.row) == name and row.n]
        of = {c.metric: spread([s for row in same if (s := row.cells[c.metric].stat)]) for c in table.columns}
        if len(same) < 2:
            continue
        for part, reason in PARTS.items():
            values = {m: getattr(known, part) if known else None for m, known in of.items()}
            found.append(_reference(f"{name}: sd {part}", reason, values))
    return tuple(found)


def _reference(name: str, reason: str, values: Mapping[str, float | None]) -> RowResult:
    """A line to read the others against. values: metric -> the number, None where it is not known."""
    stats = {m: None if v is None else CellStat(v, None, None, None, 0) for m, v in values.items()}
    cells = {m: Entry(stat, None, "not comparable") for m, stat in stats.items()}
    return RowResult(Row(name, "", ""), "reference", reason, 0, cells)


def _mark_best(table: TableSpec, rows: Sequence[RowResult]) -> tuple[RowResult, ...]:
    """The best measured mean of each column, as printed (so ties are all best); one row alone is not the best."""
    best: dict[str, set[str]] = {}
    for column in table.columns:
        means = {row.row.name: _printed(row.cells[column.metric], column) for row in rows}
        measured = {name: mean for name, mean in means.items() if mean is not None}
        winner = (max if column.higher_is_better else min)(measured.values(), default=None)
        best[column.metric] = {name for name, mean in measured.items() if mean == winner and len(measured) > 1}
    return tuple(
        replace(row, cells={m: replace(entry, best=row.row.name in best[m]) for m, entry in row.cells.items()})
        for row in rows
    )


def _printed(entry: Entry, column: Column) -> float | None:
    return round(entry.stat.mean, column.decimals) if entry.stat else None
