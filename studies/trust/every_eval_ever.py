"""`bench export --schema every_eval_ever`: each study's test metrics in the JSON of the EvalEval coalition's datastore.

One file a study, `<corpus>/<DEVELOPER>/<model>/<uuid>.json`, as that datastore lays them out. A score is the mean over
the study's finished seeded runs, as a fraction, with their standard deviation, number and 95 % t-interval. Every
protocol of the corpus's labels is in it; predictions, labels and texts are not. What the schema has no field for
(configuration, seeds, notes on the data) stands in its `additional_details` and `details`, whose values are strings.

Source: https://github.com/evaleval/every_eval_ever, `eval.schema.json` 0.3.0 (names of its keys and their meaning).
"""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from hycon.data.manifest import Manifest
from hycon.data.repeats import remarks
from hycon.errors import UserError
from hycon.files import write_atomic
from hycon.metrics import NARROW_PROTOCOLS, PROTOCOLS
from studies.lookup import known_manifest, recorded_profile
from studies.statistics.cell import CONFIDENCE, cell
from studies.store.record import RunRecord
from studies.store.run_store import RunStore
from studies.store.soundness import sound_studies
from studies.store.study import Study
from studies.trust.trace import rows_of

SCHEMA_VERSION = "0.3.0"
DEVELOPER = "hycon-bench"  # of the implementation that was measured; the methods are other people's
NAMESPACE = uuid.UUID("6d2f6a0e-6d0b-5c38-9a55-0f5c5b3f2b11")  # chosen here: a study's file keeps its name
KINDS = {"mae": "mae", "corr": "pearson_correlation", "f1": "f1"}  # the others are accuracies
DESCRIPTIONS = {**PROTOCOLS, **NARROW_PROTOCOLS}
EMOTION = "accuracy and weighted F1 of one emotion, or their average"


def export_logs(
    store: RunStore,
    folder: str | os.PathLike,
    *,
    organization: str = "unknown",
    corpus: str | None = None,
    profile: str | None = None,
    data: str | os.PathLike | None = None,
) -> list[Path]:
    """Write a file for each study with finished seeded runs, of one corpus or profile where named; returns the files.

    organization: who ran them, which the schema asks for.  Raises UserError where there is no such study, and where
    the folder cannot be written.
    """
    recorded = profile and recorded_profile(profile)
    chosen = [s for s in sound_studies(store) if corpus in (None, s.corpus) and recorded in (None, s.profile)]
    found = [(study, runs) for study in chosen if (runs := _done(study, store))]
    if not found:
        which = "".join(f" of {name}" for name in (corpus, profile) if name)
        raise UserError(f"{store.root} holds no finished seeded run{which} to export.")
    paths = []
    for study, runs in found:
        log = evaluation_log(study, runs, known_manifest(study.corpus, data, store.root), organization)
        path = Path(folder) / study.corpus / DEVELOPER / log["model_info"]["name"] / f"{_uuid(study)}.json"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(path, (json.dumps(log, indent=1, ensure_ascii=False) + "\n").encode())
        except OSError as error:
            raise UserError(f"Cannot write {path}: {error.strerror or error}.") from error
        paths.append(path)
    return paths


def evaluation_log(
    study: Study, runs: Sequence[RunRecord], manifest: Manifest | None, organization: str
) -> dict[str, Any]:
    """One study in the schema's form, from its finished seeded `runs` (at least one)."""
    now = os.environ.get("SOURCE_DATE_EPOCH") or f"{time.time():.0f}"  # the first: for files that repeat byte by byte
    name = _name(study)
    return {
        "schema_version": SCHEMA_VERSION,
        "evaluation_id": f"{study.corpus}/{DEVELOPER}_{name}/{now}",
        **({"evaluation_timestamp": started} if (started := max(r.started or "" for r in runs)) else {}),
        "retrieved_timestamp": now,
        "source_metadata": {
            "source_name": "HyCon reproduction suite",
            "source_type": "evaluation_run",
            "source_organization_name": organization,
            "evaluator_relationship": "other" if study.source else "third_party",
        },
        "eval_library": {
            "name": "hycon-bench",
            "version": metadata.version("hycon-bench"),
            "additional_details": {"commits": ", ".join(sorted({r.commit or "unknown" for r in runs}))},
        },
        "model_info": {
            "name": name,
            "id": f"{DEVELOPER}/{name}",
            "developer": DEVELOPER,
            "additional_details": _model_details(study, runs),
        },
        "evaluation_results": list(_results(study, runs, _source_data(study, runs, manifest))),
    }


def _done(study: Study, store: RunStore) -> list[RunRecord]:
    return [record for run in study.runs if (record := store.get(run)) and record.metrics.get("test")]


def _uuid(study: Study) -> uuid.UUID:
    return uuid.uuid5(NAMESPACE, study.id)


def _name(study: Study) -> str:
    """The row's name in the first table that has it, without spaces and slashes; else the model's and front-end's."""
    rows = rows_of(study)
    name = rows[0].partition(" ")[2] if rows else f"{study.model}-{study.text}"
    return "_".join(name.replace("/", " ").split())


def _model_details(study: Study, runs: Sequence[RunRecord]) -> dict[str, str]:
    spec, encoder = runs[0].spec, runs[0].spec.encoder or {}
    details = {
        "deployment_type": "self_deployed",
        "model_availability": "unknown",  # weights can be made again from the configuration; they are not published
        "model": spec.model,
        "model_version": spec.version,
        "text": spec.text,
        "encoder": encoder.get("name"),
        "encoder_sha256": encoder.get("sha256"),
        "config": spec.config,
        "training": spec.training,
        "parameters": runs[0].parameters,
        "rows": rows_of(study),
    }
    return {key: _string(value) for key, value in details.items() if value is not None}


def _source_data(study: Study, runs: Sequence[RunRecord], manifest: Manifest | None) -> dict[str, Any]:
    said = (*manifest.notes, *remarks(manifest)) if manifest else ()
    notes = dict.fromkeys([*said, *(note for run in runs for note in run.notes)])
    details = {
        "sha256": study.data,
        "split": "test",
        "utterances": manifest.sizes.get("test") if manifest else None,
        "source_format": manifest.source.get("format") if manifest else None,
        "synthetic": manifest.synthetic if manifest else None,
        "notes": "; ".join(notes) or None,
    }
    known = {key: _string(value) for key, value in details.items() if value is not None}
    return {"dataset_name": study.corpus, "source_type": "other", "additional_details": known}


def _results(study: Study, runs: Sequence[RunRecord], source: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """A result for each protocol and metric that all the runs have."""
    shared = {
        "study": study.id,
        "runs": ", ".join(run.id for run in runs),
        "seeds": ", ".join(str(run.spec.seed) for run in runs),
        "trials": str(len(study.trials)),
        "profile": study.profile,
        "devices": ", ".join(sorted({run.device for run in runs})),
        "suite": str(runs[0].spec.suite),
    }
    by_emotion = "emotions" in runs[0].metrics["test"]
    tests: list[Any] = [run.metrics["test"]["emotions"] if by_emotion else run.metrics["test"] for run in runs]
    for group, metrics in tests[0].items():
        for metric in metrics:
            values = [value for test in tests if (value := test.get(group, {}).get(metric)) is not None]
            if len(values) < len(runs):
                continue
            yield {
                "evaluation_result_id": f"{study.id}.{group}.{metric}",
                "evaluation_name": study.corpus,
                "source_data": dict(source),
                "metric_config": _metric(group, metric, by_emotion),
                "score_details": _score(values, metric, shared),
            }


def _metric(group: str, metric: str, by_emotion: bool) -> dict[str, Any]:
    kind = KINDS.get(metric, "accuracy")
    low, high = {"mae": (0.0, "Infinity"), "corr": (-1.0, 1.0)}.get(metric, (0.0, 1.0))
    return {
        "evaluation_description": EMOTION if by_emotion else DESCRIPTIONS.get(group, group),
        "metric_id": f"hycon-bench.{group}.{metric}",
        "metric_name": metric,
        "metric_kind": kind,
        "metric_unit": {"mae": "label units", "corr": "correlation"}.get(metric, "proportion"),
        "metric_parameters": {"emotion" if by_emotion else "protocol": group},
        "lower_is_better": metric == "mae",
        "score_type": "continuous",
        "min_score": low,
        "max_score": high,
    }


def _score(values: Sequence[float], metric: str, details: Mapping[str, str]) -> dict[str, Any]:
    stat = cell(values, {"mae": (0.0, float("inf")), "corr": (-1.0, 1.0)}.get(metric, (0.0, 1.0)))
    uncertainty: dict[str, Any] = {"num_samples": stat.n}
    if stat.sd is not None:
        uncertainty["standard_deviation"] = stat.sd
    if stat.low is not None:
        method = "t-interval of the mean over seeded runs"
        interval = {"lower": stat.low, "upper": stat.high, "confidence_level": CONFIDENCE, "method": method}
        uncertainty["confidence_interval"] = interval
    own = {**details, "spread": "over seeded runs, not over utterances", "values": ", ".join(map(repr, values))}
    return {"score": stat.mean, "details": own, "uncertainty": uncertainty}


def _string(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
