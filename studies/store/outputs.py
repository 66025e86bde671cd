"""What a model predicted, without the labels: what may be published of a corpus whose labels may not.

    <root>/runs/<id>/outputs.npz    {valid,test}_prediction, in the corpus's order; separation, a number

Labels and ids lie in the corpus, which whoever has it imports under the same name. Its checksum is in every record, so
the order of the utterances is known. Representations are left out, for they are large; what the claim about them asks
for, the separation of the two classes, is kept as one number. studies.aggregate.predictions makes the arrays.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from hycon.data.arrays import Damaged
from hycon.data.checksums import check_files
from hycon.data.corpus import strings_of
from hycon.data.manifest import Manifest, corpus_folder, read_manifest
from hycon.errors import UserError
from studies.store.arrays import read_arrays
from studies.store.record import RunSpec

OUTPUTS = "outputs.npz"
MEASURED = ("valid", "test")
NAMES = frozenset({*(f"{split}_prediction" for split in MEASURED), "separation"})


@dataclass(frozen=True)
class Labels:
    """Ids and labels of corpora in a data folder, read once each. data: as of `--data`."""

    data: str | os.PathLike | None = None
    known: dict[tuple[str, str], dict[str, np.ndarray] | None] = field(default_factory=dict, compare=False, repr=False)

    def of(self, spec: RunSpec) -> dict[str, np.ndarray] | None:
        """{valid,test}_{id,label} of the corpus that a run was made with; None where it is not there."""
        key = (spec.corpus, spec.data)
        if key not in self.known:
            self.known[key] = self._read(spec)
        return self.known[key]

    def _read(self, spec: RunSpec) -> dict[str, np.ndarray] | None:
        try:
            manifest = read_manifest(spec.corpus, self.data)
            if spec.data not in (manifest.sha256, manifest.files_sha256):
                return None
            return read_answers(manifest, self.data)
        except UserError:
            return None


def read_answers(manifest: Manifest, data: str | os.PathLike | None = None) -> dict[str, np.ndarray]:
    """{valid,test}_id and {valid,test}_label of a corpus, without torch. Raises UserError where it is not there, or is
    another."""
    from safetensors import SafetensorError, safe_open

    folder = corpus_folder(manifest.name, data)
    check_files(folder, manifest)
    try:
        with safe_open(folder / "corpus.safetensors", framework="np") as handle:
            named = {f"{s}.{kind}": handle.get_tensor(f"{s}.{kind}") for s in MEASURED for kind in ("strings", "label")}
    except (SafetensorError, OSError) as error:
        raise UserError(f"{folder} is damaged ({error}): import the corpus again.") from error
    ids = {f"{split}_id": np.array(strings_of(named, split)["ids"]) for split in MEASURED}
    return {**ids, **{f"{split}_label": named[f"{split}.label"] for split in MEASURED}}


def with_labels(outputs: Mapping[str, np.ndarray], answers: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Outputs with the corpus's ids and labels. Raises Damaged where they are not of the same utterances."""
    for split in MEASURED:
        rows, expected = outputs[f"{split}_prediction"].shape[:1], answers[f"{split}_label"].shape[:1]
        if rows != expected:
            raise Damaged(f"it has {rows[0]} predictions of {split}, the corpus {expected[0]} utterances")
    return {**outputs, **answers}


def read_outputs(content: bytes) -> dict[str, np.ndarray]:
    """The arrays of outputs.npz. Raises Damaged for anything but predictions of both splits, and a number."""
    arrays = read_arrays(content)
    if odd := sorted(arrays.keys() - NAMES):
        raise Damaged(f"it holds {odd[0]!r}")
    for split in MEASURED:
        found = arrays.get(f"{split}_prediction")
        if found is None or found.dtype.kind != "f" or not found.ndim or not len(found):
            raise Damaged(f"it has no predictions of {split}")
    number = arrays.get("separation", np.array(0.0))
    if number.shape != () or number.dtype.kind != "f":
        raise Damaged("its separation is no number")
    return arrays
