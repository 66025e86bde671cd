"""Which runs may be averaged: those of the same data, model version, encoder and environment class.

The runs of a row should differ in their seed alone. Machines and library versions round differently, and other data or
another model version is another experiment; a mean over both describes neither. The environment class is what is known
to change results and is in every record:

    device        the GPU's full name; of a CPU, architecture and maker (cpu x86_64 Intel): clouds name the same
                  processor differently from one machine to the next
    platform      linux, darwin
    torch         the version with its build, as 2.13.0+cpu
    transformers  of runs with a pretrained encoder only
    encoder layers   of these, padded, rows, or rows with joint attention (hycon/text_rows.py)
    threads       intra-op threads

Python, NumPy, tokenizers and the git commit are not part of it: they prepare the data, whose sha256 is compared, or
are covered by the model's VERSION. CUDA's and cuDNN's versions come with PyTorch's build. `bench verify` compares these
and the driver's as well, since it promises equal bits.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from studies.document.words import count_of
from studies.store.record import ENCODER_LAYERS, RunRecord

UNKNOWN = "not recorded"
MAKERS = ("Intel", "AMD", "Apple", "ARM", "Neoverse", "Ampere", "Graviton")
SHORT = 12  # characters of a sha256 that are printed
ACROSS = ("data", "suite version", "device", "platform", "torch", "threads")  # what rows of one table share
# What the source of a method may ask for, beside what all rows share: option of hycon.train.Training -> its words, and
# what a record without it had. Searches vary none of them.
TRAINED: dict[str, tuple[str, str | float]] = {
    "loss": ("loss (it trains, and chooses epoch and trial)", "l1"),
    "optimizer": ("optimizer", "adam"),
    "warmup": ("warmup", 0.0),
}


def device_class(device: str) -> str:
    """ "cpu x86_64 Intel" for "cpu (x86_64, Intel(R) Xeon(R) ...)"; a GPU's name as it is."""
    found = re.fullmatch(r"cpu \((\w*), (.*)\)", device)
    if not found:
        return device or UNKNOWN
    maker = next((m for m in MAKERS if m.lower() in found[2].lower()), found[2])
    return f"cpu {found[1]} {maker}"


def environment_class(record: RunRecord) -> dict[str, str]:
    """The parts of a run's environment that can change its numbers, by name; see the module's docstring."""
    versions = {name: record.environment.get(name, UNKNOWN) for name in ("platform", "torch")}
    if record.spec.encoder:
        versions["transformers"] = record.environment.get("transformers", UNKNOWN)
        versions[ENCODER_LAYERS] = record.environment.get(ENCODER_LAYERS, "padded")
    return {"device": device_class(record.device), **versions, "threads": str(record.spec.threads)}


def identity(record: RunRecord) -> dict[str, str]:
    """What the runs of one row must share, by name: data, versions, encoder, environment class."""
    spec = record.spec
    return {
        "data": spec.data[:SHORT],
        "model version": str(spec.version),
        "suite version": str(spec.suite),
        "encoder weights": (spec.encoder or {}).get("sha256", "none")[:SHORT],
        **environment_class(record),
    }


def identities(records: Sequence[RunRecord]) -> list[dict[str, str]]:
    """`identity` of each. Older records of some builds of PyTorch tell its version alone: where the others tell one
    build of that version, it is taken for theirs."""
    found = [identity(record) for record in records]
    builds = {one["torch"] for one in found if "+" in one["torch"]}
    for one in found:
        told = [build for build in builds if build.startswith(one["torch"] + "+")]
        if len(told) == 1:
            one["torch"] = told[0]
    return found


def mixture(records: Iterable[RunRecord]) -> dict[str, dict[str, list[str]]]:
    """Aspect -> value -> ids of the runs with it, for each aspect in which `records` differ; empty where they agree."""
    records = list(records)
    found: dict[str, dict[str, list[str]]] = {}
    for record, own in zip(records, identities(records), strict=True):
        for aspect, value in own.items():
            found.setdefault(aspect, {}).setdefault(value, []).append(record.id)
    return {aspect: values for aspect, values in found.items() if len(values) > 1}


def described(mixed: Mapping[str, Mapping[str, Sequence[str]]]) -> str:
    """ "torch 2.12.0+cpu (2 runs: 0123..., 4567...) and 2.13.0+cpu (3 runs: ...)", aspect by aspect."""
    return "; ".join(
        f"{aspect} " + " and ".join(f"{value} ({_runs(ids)})" for value, ids in values.items())
        for aspect, values in mixed.items()
    )


def refusal(records: Sequence[RunRecord], mixed: Mapping[str, Mapping[str, Sequence[str]]]) -> str:
    """Why a row has no mean, and what to do."""
    return f"{len(records)} runs that differ are not averaged without --mixed: {described(mixed)}"


def _runs(ids: Sequence[str]) -> str:
    shown = ", ".join(run_id[:8] for run_id in ids[:5])  # chosen here: as many as a row has
    return f"{count_of(len(ids), 'run')}: {shown}{', ...' if len(ids) > 5 else ''}"


def across(records_by_row: Mapping[str, Sequence[RunRecord]]) -> tuple[str, ...]:
    """A phrase for each aspect in which rows of one table differ: their means stand side by side and are compared.

    "rows differ in torch: 2.12.0+cpu (TFN-BERT), otherwise 2.13.0+cpu".
    """
    names = [name for name, records in records_by_row.items() for _ in records]
    every = [record for records in records_by_row.values() for record in records]
    found = [{**own, **_trained(record)} for record, own in zip(every, identities(every), strict=True)]
    said = []
    for aspect in (*ACROSS, *(words for words, _ in TRAINED.values())):
        rows: dict[str, list[str]] = {}
        for name, value in dict.fromkeys((name, own[aspect]) for name, own in zip(names, found, strict=True)):
            rows.setdefault(value, []).append(name)
        if len(rows) > 1:
            commonest = max(rows, key=lambda value: len(rows[value]))
            others = ", ".join(f"{v} ({', '.join(names)})" for v, names in rows.items() if v != commonest)
            said.append(f"rows differ in {aspect}: {others}, otherwise {commonest}")
    return tuple(said)


def _trained(record: RunRecord) -> dict[str, str]:
    """TRAINED's words -> the run's value."""
    found = {words: record.spec.training.get(option, own) for option, (words, own) in TRAINED.items()}
    return {words: f"{value:g}" if isinstance(value, float | int) else value for words, value in found.items()}
