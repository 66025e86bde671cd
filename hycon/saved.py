"""A trained model in a folder of its own, which needs neither its corpus nor its results folder.

    README.md             the model card, for people
    model.json            what it is (`Description`), and the sha256 of the files beside it
    weights.safetensors   the weights
    inputs.safetensors    what was measured on the training data: scalers, and the word vectors of glove
    encoder/              of a pretrained text encoder, the configuration and the tokenizer; its weights are above

Reading it runs nothing that is in it: JSON with checked types, and safetensors. Links are not followed, and files have
limits. Which class the weights belong to is a name that the suite knows, never code in the folder.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from hycon.errors import UserError
from hycon.files import check_regular, sha256_file, temporary, write_atomic

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from hycon.data.prepare import Inputs

FORMAT = 1
DESCRIPTION, WEIGHTS, INPUTS, ENCODER, CARD = (
    "model.json",
    "weights.safetensors",
    "inputs.safetensors",
    "encoder",
    "README.md",
)
# Bytes of the largest file of each kind, chosen here: BERT's weights have 440 MB, those of a large model 2 GB; the
# vectors of CMU-MOSEI's words 25 MB.
LARGEST = {DESCRIPTION: 8 * 2**20, WEIGHTS: 16 * 2**30, INPUTS: 4 * 2**30}
Size = Annotated[int, msgspec.Meta(ge=1, le=2**31)]


@dataclass(frozen=True)
class Description:
    """model.json.

    run: the id of the run that made it.  spec: the run's whole specification, as in its record.
    weights_sha256: of the tensors, as in the record.  dims: modality -> feature size that the model is built with.
    reads: the modalities that it looks at.  emotions: names, in the order of the predictions; empty for sentiment.
    labels: the lowest and highest label that it was trained on.  lengths, aligned, own_vectors: as in
    hycon.data.prepare.Inputs.  notes: of the corpus and the run; synthetic data is named there.
    differs: where these are not the weights of the run's record, what differs.
    """

    run: str
    spec: dict[str, Any]
    weights_sha256: str
    dims: dict[str, Size]
    reads: list[str]
    emotions: list[str]
    labels: list[float]
    lengths: dict[str, Size]
    aligned: bool
    own_vectors: bool
    notes: list[str] = field(default_factory=list)
    differs: list[str] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)
    format: int = FORMAT


def weights_digest(tensors: Mapping[str, Tensor]) -> str:
    """The sha256 of a state_dict, whatever device it is on."""
    return _digest({name: tensor.detach().cpu().contiguous().numpy() for name, tensor in tensors.items()})


def digest_in(path: Path) -> str | None:
    """The same of a file of weights, without torch; None where it is damaged or a link."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return None if path.is_symlink() else _digest(load_file(path))
    except (SafetensorError, OSError, ValueError, KeyError):
        return None


def _digest(arrays: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        digest.update(name.encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def save_weights(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write a state_dict, whole or not at all. Raises OSError."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    temp = temporary(path)
    try:  # clones: tensors that share memory are refused
        save_file({name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}, temp)
        temp.chmod(0o644)  # safetensors makes it 0600, which would keep a group from sharing it
        os.replace(temp, path)
    except SafetensorError as error:  # a full disk is one
        raise OSError(0, str(error), str(path)) from error
    finally:
        temp.unlink(missing_ok=True)


def load_weights(path: Path) -> dict[str, Tensor]:
    """Raises UserError where the file is damaged."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise UserError(f"{path} is damaged ({error}): train the model again.") from error


# ------------------------------------------------------------------------------------------------- writing


def check_new(folder: Path) -> None:
    """Raises UserError where a model cannot be written to `folder`, because something is there."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} is there already: give another folder with --output, or delete it.")


def write_model(
    folder: Path, description: Description, weights: Path, inputs: Inputs, encoder: Path | None, card: str
) -> Description:
    """Write a model, the folder whole or not at all, and return its description with the files' digests.

    encoder: the folder that holds the pretrained encoder's configuration and tokenizer.
    Raises UserError where something is there already, or the disk refuses.
    """
    check_new(folder)
    temp = temporary(folder.absolute())
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temp.mkdir()
        shutil.copyfile(weights, temp / WEIGHTS)
        if tensors := _input_tensors(inputs):
            save_weights(tensors, temp / INPUTS)
        if encoder:
            _copy_encoder(encoder, temp / ENCODER)
        files = {p.relative_to(temp).as_posix(): sha256_file(p) for p in sorted(temp.rglob("*")) if p.is_file()}
        description = dataclasses.replace(description, files=files)
        text = json.dumps(dataclasses.asdict(description), indent=1, ensure_ascii=False)
        write_atomic(temp / CARD, card.encode())
        write_atomic(temp / DESCRIPTION, (text + "\n").encode())
        if folder.is_dir():
            folder.rmdir()  # it is empty
        os.rename(temp, folder)
    except OSError as error:
        raise UserError(f"Cannot write {folder}: {error.strerror or error}; nothing was changed.") from error
    finally:
        shutil.rmtree(temp, ignore_errors=True)
    return description


def _input_tensors(inputs: Inputs) -> dict[str, Tensor]:
    import torch

    found = {
        f"{modality}.{part}": tensor
        for modality, scaler in inputs.scalers.items()
        for part, tensor in zip(("shift", "divisor"), scaler, strict=True)
    }
    if inputs.vectors:  # safetensors holds no strings
        words = json.dumps(list(inputs.vectors["words"]), ensure_ascii=False).encode()
        found["vectors.words"] = torch.frombuffer(bytearray(words), dtype=torch.uint8)
        found["vectors.matrix"] = inputs.vectors["matrix"]
    return found


def _copy_encoder(folder: Path, to: Path) -> None:
    """What of an encoder is no weights: the files that identify its configuration and tokenizer."""
    from hycon.encoder_files import described_by

    to.mkdir()
    for path in described_by(folder):
        shutil.copyfile(path, to / path.name)


# ------------------------------------------------------------------------------------------------- reading


def read_description(folder: Path) -> Description:
    """model.json, with every file beside it checked. Raises UserError where it is no model, damaged, or newer."""
    path = folder / DESCRIPTION
    if not path.is_file():
        raise UserError(f"{folder} is no trained model: it has no {DESCRIPTION}; `bench train` writes such folders.")
    _check(folder, DESCRIPTION)
    try:
        found = msgspec.json.decode(path.read_bytes(), type=Description)
    except (msgspec.MsgspecError, OSError, RecursionError) as error:
        raise UserError(f"{path} is damaged ({error}): train the model again.") from error
    if found.format > FORMAT:
        raise UserError(f"{path} was written by a newer version of this suite (format {found.format}): upgrade.")
    if WEIGHTS not in found.files:
        raise UserError(f"{path} names no {WEIGHTS}: train the model again.")
    for name, digest in found.files.items():
        if name not in (WEIGHTS, INPUTS) and Path(name) != Path(ENCODER) / Path(name).name:
            raise UserError(f"{path} names {name!r}, which is no file of a model: train the model again.")
        _check(folder, name)
        if sha256_file(folder / name) != digest:
            raise UserError(f"{folder / name} does not have the sha256 that {DESCRIPTION} names: it was changed.")
    return found


def read_inputs(folder: Path, description: Description) -> Inputs:
    """Raises UserError where the scalers or word vectors are not those of such a model."""
    from hycon.data.batch import Layout
    from hycon.data.prepare import Inputs

    tensors = load_weights(folder / INPUTS) if INPUTS in description.files else {}
    text = str(description.spec.get("text"))
    try:
        scalers = {
            m: (tensors[f"{m}.shift"], tensors[f"{m}.divisor"]) for m in ("audio", "vision") if f"{m}.shift" in tensors
        }
        vectors = None
        if text == "glove" and not description.own_vectors:
            words = json.loads(tensors["vectors.words"].numpy().tobytes())
            vectors = {"words": words, "matrix": tensors["vectors.matrix"]}
            if tuple(vectors["matrix"].shape) != (len(words), description.dims["text"]):
                raise ValueError(f"{len(words)} words, vectors of shape {tuple(vectors['matrix'].shape)}")
        for modality, scaler in scalers.items():
            if any(tuple(part.shape) != (description.dims[modality],) for part in scaler):
                raise ValueError(f"the scaler of {modality} is not that of {description.dims[modality]} features")
        layout = Layout({m: description.lengths[m] for m in ("text", "audio", "vision")}, aligned=description.aligned)
    except (KeyError, ValueError, RecursionError) as error:
        raise UserError(f"{folder} is damaged ({error}): train the model again.") from error
    return Inputs(text, layout, description.own_vectors, vectors, scalers)


def _check(folder: Path, name: str) -> None:
    """Raises UserError where a file is missing, or a link or a pipe, or beyond its limit."""
    path = folder / name
    for part in (path, path.parent) if "/" in name else (path,):
        if part.is_symlink():
            raise UserError(f"{part} is a link, which is not followed: put the file in its place.")
    check_regular(path)
    if not path.is_file():
        raise UserError(f"{path} is missing: train the model again.")
    if path.stat().st_size > LARGEST.get(name, LARGEST[DESCRIPTION] * 8):
        raise UserError(f"{path} has {path.stat().st_size} bytes, more than is read here.")
