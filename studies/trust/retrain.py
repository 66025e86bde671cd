"""`bench train`: the weights of a finished run, made again bit for bit, as a folder that can be used on its own.

A record has the sha256 of its weights, not the weights: training is repeatable, so they can be had whenever they are
wanted. Where they were kept (`bench run --keep-weights`), they are taken from there. Weights that are not the record's
are written only where that is asked for, and the folder says what differs.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hycon.data.manifest import MODALITIES
from hycon.errors import UserError
from hycon.saved import WEIGHTS, Description, check_new, digest_in, write_model
from studies.engines.executors import DEFAULT
from studies.registry import changed_code
from studies.store.record import RunRecord, without_source
from studies.store.run_store import RunStore
from studies.trust.card import card
from studies.trust.verify import Verification, check_repeatable, scratch_folder, verify, weights_file

if TYPE_CHECKING:
    from hycon.data import Corpus
    from hycon.data.prepare import Inputs

MOST_TOLD = 12  # differences that a folder and a message name; chosen here


@dataclass(frozen=True)
class Trained:
    """differs: why the weights are not the record's; empty: they are.  written: whether there is a folder.
    kept: whether the weights were kept with the run, and nothing was trained."""

    record: RunRecord
    differs: tuple[str, ...]
    written: bool
    kept: bool


def median_run(records: Sequence[RunRecord]) -> RunRecord:
    """The run with the median validation loss; of an even number, the better of the two in the middle."""
    ranked = sorted(records, key=lambda r: (r.valid_loss is None, r.valid_loss or 0.0, r.spec.seed))
    return ranked[(len(ranked) - 1) // 2]


def retrain(
    record: RunRecord,
    store: RunStore,
    folder: Path,
    *,
    data: str | os.PathLike | None = None,
    device: str | None = None,
    encoders: Mapping[str, str] | None = None,
    anyway: bool = False,
    chosen: Sequence[str] = (),
    executor: str = DEFAULT,
    on_event: Callable[[Any], None] | None = None,
) -> Trained:
    """Write the model of a finished run to `folder`.

    device, encoders: as for `verify`.  anyway: write it also where the weights are not the record's.  chosen: how the
    run was chosen, sentences for the model card.
    Raises UserError, before anything is trained, where `folder` is there already, and where corpus, encoder or model
    version is not the run's; also where training fails.
    """
    check_new(folder)
    check_repeatable(record, store, data=data, encoders=encoders or {})
    with scratch_folder() as scratch:
        weights = store.folder(record.id) / WEIGHTS
        kept = record.weights_sha256 is not None and digest_in(weights) == record.weights_sha256
        found = None
        if not kept:
            weights = weights_file(scratch, record)
            found = verify(
                [record],
                store,
                data=data,
                device=device,
                encoders=encoders,
                executor=executor,
                on_event=on_event,
                weights=scratch,
            )[0]
            if found.outcome == "failed":
                raise UserError(f"Run {record.id} could not be trained again: {'; '.join(found.findings).rstrip('.')}.")
        digest = str(digest_in(weights))
        differs = tuple(_differences(record, digest, found))
        if differs and not anyway:
            return Trained(record, differs, written=False, kept=kept)
        _write(record, folder, weights, digest, differs, data, chosen)
    return Trained(record, differs, written=True, kept=kept)


def _differences(record: RunRecord, digest: str, found: Verification | None) -> list[str]:
    if digest == record.weights_sha256:
        return []
    if record.weights_sha256 is None:
        return ["the record has no sha256 of its weights, so they cannot be compared"]
    said = [f"weights: sha256 {record.weights_sha256[:12]} in the record, {digest[:12]} now"]
    if found:
        said += [*found.environment, *(one for one in found.findings if not one.startswith("weights:")), *found.notes]
    return said if len(said) <= MOST_TOLD else [*said[:MOST_TOLD], f"and {len(said) - MOST_TOLD} more differences"]


def _write(
    record: RunRecord,
    folder: Path,
    weights: Path,
    digest: str,
    differs: Sequence[str],
    data: str | os.PathLike | None,
    chosen: Sequence[str],
) -> None:
    from hycon.data import load
    from hycon.data.prepare import inputs_of
    from hycon.pretrained import DEMO, locate

    spec = record.spec
    corpus = load(spec.corpus, data)
    inputs = inputs_of(corpus, spec.text, scale=spec.training["scale"])
    description = _described(record, corpus, inputs, digest, differs)
    encoder = locate(spec.text, spec.encoder) if spec.encoder and spec.encoder["name"] != DEMO else None
    changed = changed_code([record]).get(record.id, [])
    text = card(record, description, corpus.manifest, chosen=chosen, changed=changed)
    write_model(folder, description, weights, inputs, encoder, text)


def _described(record: RunRecord, corpus: Corpus, inputs: Inputs, digest: str, differs: Sequence[str]) -> Description:
    from hycon.pretrained import hidden_size

    spec, train = record.spec, corpus.splits["train"]
    dims = {"audio": train.audio.rows.shape[1], "vision": train.vision.rows.shape[1]}
    if spec.encoder:
        dims["text"] = hidden_size(spec.text, spec.encoder)
    else:
        dims["text"] = inputs.vectors["matrix"].shape[1] if inputs.vectors else corpus.manifest.dims["text"]
    return Description(
        run=record.id,
        spec=without_source(asdict(spec)),
        weights_sha256=digest,
        dims={m: dims[m] for m in MODALITIES},
        reads=str(spec.config.get("modalities", ",".join(MODALITIES))).split(","),
        emotions=list(corpus.manifest.emotions or ()),
        labels=[float(train.label.min()), float(train.label.max())],
        lengths=dict(inputs.layout.lengths),
        aligned=inputs.layout.aligned,
        own_vectors=inputs.own,
        notes=record.notes,
        differs=list(differs),
    )
