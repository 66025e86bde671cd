"""The table that a results folder holds now. Imports no torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from hycon.data.corpus import read_labels
from hycon.data.manifest import Manifest
from studies.aggregate.cells import NOT_RUN, RowResult, TableResult, assemble, corpus_info
from studies.aggregate.choice import Choice, choices
from studies.aggregate.comparability import across, described, mixture, refusal
from studies.aggregate.obstacles import CorpusInfo
from studies.aggregate.robustness import remedy, unmeasured
from studies.document.words import count_of
from studies.lookup import DEFAULT_VIEW, PROFILES, View, in_range, manifest_of
from studies.registry import MODELS, changed_code, literal, source_of
from studies.store.record import RunRecord
from studies.store.run_store import RunStore
from studies.store.soundness import sound_studies
from studies.store.study import Study
from studies.tables import WINNER, Row, TableSpec, for_emotions, for_range

OTHER_DATA = "run on other data than the corpus of this name has now"
OTHER_WINNER = "a variant of another winner than its intact row has now"


def table_result(
    table: TableSpec,
    store: RunStore,
    view: View = DEFAULT_VIEW,
    *,
    rows: Sequence[Row] | None = None,
    studies: Sequence[Study] | None = None,
    manifest: Manifest | None = None,
) -> TableResult:
    """The table as the results folder has it now. Trains nothing and imports no torch.

    rows: only these.  studies: read already, in place of all of the folder.  manifest: of the corpus, in place of the
    one that the data or the folder has. A row whose runs may not be averaged (see View.mixed) is `missing`; its reason
    names the runs and what they differ in.
    """
    corpus = view.corpus_of(table)
    manifest = manifest or manifest_of(corpus, view.data, *store.roots)
    table = for_range(for_emotions(table, manifest.emotions), manifest.label_bound)
    view = in_range(view, manifest)
    shown = table if rows is None else dataclasses.replace(table, rows=tuple(rows))
    known = sound_studies(store) if studies is None else studies
    chosen = choices(shown, view, known, manifest, store)
    found = {name: choice.best for name, choice in chosen.items() if choice.best}
    records: dict[str, list[RunRecord]] = {}
    status: dict[str, tuple[str, str]] = {}
    for row in shown.rows:
        choice = chosen[row.name]
        if row.model in MODELS and choice.best:
            records[row.name], status[row.name] = _to_average(row, choice.best, choice.stale, store, view, manifest)
        else:
            status[row.name] = _without_study(row, choice, known, store)
    unrobust = {name: why for name, own in records.items() if table.robust and (why := unmeasured(own))}
    for name, why in unrobust.items():
        state, reason = status[name]
        status[name] = (state or "missing", "; ".join(filter(None, (reason, why))))
    filled = assemble(
        shown,
        records,
        {name: said for name, said in status.items() if said[0]},
        corpus=_info(manifest, view, shown, [record for own in records.values() for record in own]),
        protocol=view.protocol,
        budgets={name: _budget(chosen[name].intact if found[name].winner_of else found[name]) for name in records},
        winners=_winner_losses({n: found[n] for n in records}, store) if WINNER in table.columns else {},
    )
    notes = (
        *filled.notes,
        *_origins(shown, found),
        *taken_from(filled.rows, store),
        *across({row.row.name: row.records for row in filled.rows}),
        *_besides(chosen),
        *remedy(shown, list(unrobust), view),
    )
    return dataclasses.replace(filled, rows=_traced(filled.rows, found, store), notes=notes)


def _without_study(row: Row, choice: Choice, studies: Sequence[Study], store: RunStore) -> tuple[str, str]:
    """(status, reason) of a row that no study fills."""
    if row.model not in MODELS:
        return "missing", f"model {row.model} is not built yet"
    if other := _of_other_source(row, studies):
        return other
    if row.intact and choice.intact:
        return _unwon(row.intact, choice.intact, store)
    return "missing", "not run with these options" if choice.others else NOT_RUN


def _to_average(
    row: Row, study: Study, stale: bool, store: RunStore, view: View, manifest: Manifest
) -> tuple[list[RunRecord], tuple[str, str]]:
    """The runs of the study that fills a row, and (status, reason); no runs where they may not be averaged."""
    records, said = _unmixed(*_runs_of(study, store), view.mixed)
    if manifest.files and study.data not in (manifest.sha256, manifest.files_sha256):
        records = _noted(records, OTHER_DATA)
    if stale and row.intact:
        records = _noted(records, OTHER_WINNER)
        said = said if said[0] else ("missing", f"of another winner than {row.intact.name} has now: run it again")
    return records, said


def _noted(records: list[RunRecord], note: str) -> list[RunRecord]:
    return [dataclasses.replace(record, notes=[*record.notes, note]) for record in records]


def _traced(rows: Sequence[RowResult], found: Mapping[str, Study], store: RunStore) -> tuple[RowResult, ...]:
    """The rows with the studies that fill them, and with what has changed of the code of their runs."""
    code = changed_code(record for row in rows for record in row.records)
    ids = {name: study.id for name, study in found.items()}
    return tuple(
        dataclasses.replace(
            row,
            study=ids.get(row.row.name),
            origin=str(store.beside.root) if store.beside and _from_beside(row, store) else "",
            changed={record.id: code[record.id] for record in row.records if record.id in code},
        )
        for row in rows
    )


def _from_beside(row: RowResult, store: RunStore) -> int:
    return sum(store.from_beside(record.id) for record in row.records)


def taken_from(rows: Sequence[RowResult], store: RunStore) -> list[str]:
    """For the caption: the rows whose runs are those of the folder beside, and versions of theirs that are not this
    code's. `across` says what else keeps rows from being compared."""
    found = {row.row.name: (_from_beside(row, store), len(row.records)) for row in rows if row.records}
    taken = [name + ("" if n == of else f" ({n} of {of} runs)") for name, (n, of) in found.items() if n]
    if not taken or store.beside is None:
        return []
    said = [f"NOT RUN HERE, but taken from {store.beside.root} (--with): {', '.join(taken)}"]
    for row in rows:
        made = {r.spec.version for r in row.records if store.from_beside(r.id)}
        if made and made != {now := literal(row.row.model, "VERSION")}:
            versions = " and ".join(map(str, sorted(made)))
            said.append(f"{row.row.name} was made with version {versions} of {row.row.model}, this code has {now}")
    return said


def _info(manifest: Manifest, view: View, table: TableSpec, records: Sequence[RunRecord]) -> CorpusInfo:
    """The corpus; without a constant prediction where all runs are on other data, whose labels are not at hand."""
    shows_acc2 = any(column.metric == "acc2" for column in table.columns)
    info = corpus_info(manifest, constant=_constant(manifest, view) if shows_acc2 else None)
    elsewhere = records and all(OTHER_DATA in record.notes for record in records)
    return dataclasses.replace(info, constant=None) if elsewhere else info


def _constant(manifest: Manifest, view: View) -> dict[str, dict[str, float]] | None:
    """What a constant prediction reaches, by the labels of the corpus at hand where its manifest is older than that."""
    from hycon.metrics import constant_metrics

    if manifest.constant or manifest.task != "sentiment":
        return manifest.constant
    labels = read_labels(manifest, view.data)
    return constant_metrics(labels["train"], labels["test"], manifest.label_bound) if labels else None


def _besides(found: Mapping[str, Choice]) -> list[str]:
    """A phrase for the caption where the folder holds further studies of the rows."""
    others = {study.id for choice in found.values() if choice.best for study in choice.others}
    said = f"not shown: {count_of(len(others), 'other study', 'other studies')} of these rows (`bench list studies`)"
    return [said] if others else []


def _runs_of(study: Study, store: RunStore) -> tuple[list[RunRecord], tuple[str, str]]:
    """The seeded runs of a study, finished or failed, and what else is to say of them: (status, reason)."""
    records = [record for run in study.runs if (record := store.get(run) or store.failed(run))]
    if study.chosen is None:
        return records, _under_way(study, store)
    failures = [f for trial in study.trials if (f := store.failed(trial))]
    missing = len(study.runs) - len(records)
    said = [f"{missing} of {len(study.runs)} seeded runs to do"] if missing else []
    if failures:
        said.append(f"{len(failures)} of {len(study.trials)} trials failed: {failures[0].reason}")
    return records, ("missing", "; ".join(said)) if said else ("", "")


def _under_way(study: Study, store: RunStore) -> tuple[str, str]:
    """(status, reason) of a search without a winner."""
    failures = [f for trial in study.trials if (f := store.failed(trial))]
    done = sum(store.has(trial) for trial in study.trials)
    if failures and done == 0 and len(failures) == len(study.trials):
        return "failed", failures[0].reason or "every trial failed"
    return "missing", f"search under way: {done} of {len(study.trials)} trials done"


def _unwon(intact: Row, study: Study, store: RunStore) -> tuple[str, str]:
    """(status, reason) of a variant that has no study, while its intact row has one."""
    if study.chosen is not None:
        return "missing", NOT_RUN
    status, reason = _under_way(study, store)
    return status, f"{intact.name}: {reason}"


def _of_other_source(row: Row, studies: Sequence[Study]) -> tuple[str, str] | None:
    """(status, reason) of a row of a model outside the repository that was run with another content of its file."""
    source = source_of(row.model)
    others = {s.source for s in studies if (s.model, s.text, s.row) == (row.model, row.text, dict(row.config))}
    if source is None or not others - {source}:
        return None
    earlier = ", ".join(sorted(other[:12] if other else "none" for other in others - {source}))
    return "missing", f"run only with other contents of the model's file (sha256 {earlier}; now {source[:12]})"


def _origins(table: TableSpec, found: Mapping[str, Study]) -> list[str]:
    """Sentences for the caption: which rows were not searched, and what they have instead."""
    variants = {row.name: row.intact.name for row in table.rows if row.intact and row.name in found}
    own = [name for name in variants if found[name].searched]
    taken = [name for name in variants if name not in own]
    said = []
    if taken:
        intact = " or ".join(dict.fromkeys(variants[name] for name in taken))
        which = f"rows {', '.join(taken)} were" if own else "variants were"
        said.append(
            f"{which} not searched: each has the winning configuration of {intact}, changed only as its name says"
        )
    if own:
        which = f"rows {', '.join(own)} were each" if taken else "each row was"
        said.append(f"{which} searched by itself")
    measured = {name: study for name, study in found.items() if study.measured}
    if measured:
        said.append(f"not searched: {_measurement(measured)}")
    return said


def _measurement(measured: Mapping[str, Study]) -> str:
    """How the rows were run: what all of them have, and then what some have besides, with their names."""
    fixed = {name: {k: v for k, v in study.options.items() if k != "patience"} for name, study in measured.items()}
    first = next(iter(measured))
    common = {k: v for k, v in fixed[first].items() if all(own.get(k) == v for own in fixed.values())}
    besides: dict[str, list[str]] = {}
    for name, own in fixed.items():
        rest = {key: value for key, value in own.items() if key not in common}
        for phrase in _set(rest, measured[name].profile):
            besides.setdefault(phrase, []).append(name)
    said = ["the default configuration of each model"]
    if "batch_size" in common:
        said.append(f"batch size {common.pop('batch_size')}")
    if "epochs" in common:
        many = common.pop("epochs")
        said.append(f"{many} epoch{'s' if many != 1 else ''} without early stopping")
    said += _set(common, measured[first].profile)
    return "; ".join([", ".join(said), *(f"{', '.join(names)} {phrase}" for phrase, names in besides.items())])


def _unmixed(records: list[RunRecord], said: tuple[str, str], allowed: bool) -> tuple[list[RunRecord], tuple[str, str]]:
    """The records with their status; no records where the finished ones may not be averaged."""
    done = [record for record in records if record.status == "done"]
    found = mixture(done)
    if not found:
        return records, said
    if not allowed:
        return [], ("missing", refusal(done, found))
    note = f"averages runs that differ (--mixed): {described(found)}"
    return records, (said[0] or "missing", f"{said[1]}; {note}" if said[1] else note)


def _winner_losses(found: Mapping[str, Study], store: RunStore) -> dict[str, float]:
    """Row name -> the validation loss by which the winner was chosen, where it is known."""
    records = {name: store.get(study.winner) for name, study in found.items() if study.winner}
    return {name: r.valid_loss for name, r in records.items() if r and r.valid_loss is not None}


def _budget(study: Study | None) -> str:
    """ "50 trials, at most 9 epochs, patience 2, with lr = 0.1 set by hand": the search, and the options that it did
    not draw. None: a search that is not in the folder. Of what was measured: only what was set by hand."""
    if study is None:
        return "an unknown number of trials"
    fixed = dict(study.options)
    if study.measured:
        by_hand = _set({k: v for k, v in fixed.items() if k not in ("epochs", "patience", "batch_size")}, study.profile)
        return ", ".join(by_hand)
    epochs, patience = fixed.pop("epochs", None), fixed.pop("patience", None)
    parts = [count_of(len(study.trials), "trial")]
    if epochs:
        parts.append(f"at most {epochs} epoch{'s' if epochs != 1 else ''}")
    if patience:
        parts.append(f"patience {patience}")
    return ", ".join([*parts, *_set(fixed, study.profile)])


def _set(fixed: Mapping[str, Any], profile: str) -> list[str]:
    if not fixed:
        return []
    demo = profile in PROFILES and PROFILES[profile].demo
    whose = "by the demo profile" if demo else "by hand"
    return ["with " + ", ".join(f"{key} = {value}" for key, value in fixed.items()) + f" set {whose}"]
