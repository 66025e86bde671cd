"""The table that a results folder holds now. Imports no torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hycon.data.corpus import read_labels
from hycon.data.manifest import Manifest
from studies.aggregate.cells import NOT_RUN, TableResult, assemble, corpus_info
from studies.aggregate.comparability import across, described, mixture, refusal
from studies.lookup import DEFAULT_VIEW, PROFILES, View, manifest_of, recorded_profile
from studies.registry import MODELS, source_of
from studies.store.record import RunRecord
from studies.store.run_store import RunStore
from studies.store.soundness import sound_studies
from studies.store.study import Study
from studies.tables import WINNER, Row, TableSpec, for_emotions

OTHER_DATA = "run on other data than the corpus of this name has now"


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
    manifest = manifest or manifest_of(view.corpus_of(table), view.data, store.root)
    table = for_emotions(table, manifest.emotions)
    shown = table if rows is None else dataclasses.replace(table, rows=tuple(rows))
    known = sound_studies(store) if studies is None else studies
    found = studies_of(shown, view, known, manifest)
    records: dict[str, list[RunRecord]] = {}
    status: dict[str, tuple[str, str]] = {}
    budgets: dict[str, str] = {}
    winners: dict[str, float] = {}
    for row in shown.rows:
        study = found.get(row.name)
        intact = study_of(row.intact, known, view.corpus_of(table), view, manifest.sha256) if row.intact else None
        if row.model not in MODELS:
            status[row.name] = ("missing", f"model {row.model} is not built yet")
        elif study is None:
            run = _unwon(row.intact, intact, store) if row.intact and intact else ("missing", NOT_RUN)
            status[row.name] = _of_other_source(row, known) or run
        else:
            found_runs, said = _unmixed(*_runs_of(study, store), view.mixed)
            if manifest.files and study.data not in (manifest.sha256, manifest.files_sha256):
                found_runs = [dataclasses.replace(r, notes=[*r.notes, OTHER_DATA]) for r in found_runs]
            records[row.name], status[row.name] = found_runs, said
            budgets[row.name] = _budget(intact if study.winner_of else study)
            if WINNER in table.columns and (loss := _winner_loss(study, store)) is not None:
                winners[row.name] = loss
    given = {name: why for name, why in status.items() if why[0]}
    info = corpus_info(manifest, constant=_constant(manifest, view) if "acc2" in _metrics(shown) else None)
    filled = assemble(shown, records, given, corpus=info, protocol=view.protocol, budgets=budgets, winners=winners)
    beside = across({row.row.name: row.records for row in filled.rows})
    return dataclasses.replace(filled, notes=(*filled.notes, *_origins(shown, found), *beside))


def _metrics(table: TableSpec) -> set[str]:
    return {column.metric for column in table.columns}


def _constant(manifest: Manifest, view: View) -> dict[str, dict[str, float]] | None:
    """What a constant prediction reaches, by the labels of the corpus at hand where its manifest is older than that."""
    from hycon.metrics import constant_metrics

    if manifest.constant or manifest.task != "sentiment":
        return manifest.constant
    labels = read_labels(manifest, view.data)
    return constant_metrics(labels["train"], labels["test"]) if labels else None


def studies_of(table: TableSpec, view: View, studies: Sequence[Study], manifest: Manifest) -> dict[str, Study]:
    """Row name -> the one of `studies` that `table_result` fills it from; rows without one are left out."""
    corpus = view.corpus_of(table)
    found = {row.name: study_of(row, studies, corpus, view, manifest.sha256) for row in table.rows}
    return {row: study for row, study in found.items() if study is not None}


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


def _winner_loss(study: Study, store: RunStore) -> float | None:
    """The validation loss by which the winner was chosen."""
    record = store.get(study.winner) if study.winner else None
    return record.valid_loss if record else None


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
    count = len(study.trials)
    parts = [f"{count} trial{'s' if count != 1 else ''}"]
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


def study_of(
    row: Row, studies: Iterable[Study], corpus: str, view: View = DEFAULT_VIEW, data: str | None = None
) -> Study | None:
    """The study that fills a row; None where none fits. data: sha256 of the corpus as it is now.

    Of those with the view's profile and encoder, in this order: one on the corpus's current data, the newest model
    VERSION, the most seeded runs, the most trials. A variant's study must have the winner that its intact row has now;
    where there is none, one with a search of its own serves.
    """
    studies = list(studies)
    profile = view.profile and recorded_profile(view.profile)
    fitting = [
        s
        for s in studies
        if (s.model, s.text, s.corpus, s.row, s.number) == (row.model, row.text, corpus, dict(row.config), row.study)
        and (s.measured, s.source) == (row.measured, source_of(row.model))
        and (profile is None or s.profile == profile)
        and (row.text not in view.encoders or (s.encoder or {}).get("name") == view.encoders[row.text])
    ]
    if row.intact is not None:
        intact = study_of(row.intact, studies, corpus, view, data)
        taken = [
            s
            for s in fitting
            if s.winner_of and (intact is None or (s.winner, s.options) == (intact.winner, intact.options))
        ]
        fitting = taken or [s for s in fitting if s.searched]
    return max(fitting, key=lambda s: (s.data == data, s.model_version, len(s.runs), len(s.trials), s.id), default=None)
