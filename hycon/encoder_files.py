"""The folder of a pretrained text encoder: which of its files are loaded, and the sha256 that identifies them.

RULE "2", in force for new runs: configuration and tokenizer (every .json, .txt and .model in the folder but
documentation and `generation_config.json`), and the weights that are loaded: the first of WEIGHTS, with an index the
files that it names. Weights of other frameworks and formats are left out, so that a folder fetched in part is the same
encoder. Records without a rule were made by the first one, which left out some of the tokenizer's files and the index
of weights in parts; they are checked by it.

A digest is computed once for a command and the processes that it starts: $BENCH_ENCODER_DIGESTS (JSON) keeps it under
the files' names, inodes, sizes and times, so a folder that is overwritten is read anew.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from hycon.errors import UserError
from hycon.files import kept_digests, sha256_file

RULE = "2"
WEIGHTS = (  # in the order in which transformers looks for them
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
READ = (".json", ".txt", ".model")
NOT_LOADED = (  # beginnings of names: documentation, hidden files, and what training and sentence-transformers leave
    *(".", "readme", "license", "notice", "requirements", "generation_config"),
    *(
        "trainer_state",
        "training_args",
        "all_results",
        "eval_results",
        "train_results",
        "modules",
        "sentence_bert_config",
    ),
)
FIRST_RULE = (
    "config.json",
    "*.safetensors",
    "*.bin",
    "vocab.txt",
    "spiece.model",
    "tokenizer.json",
    "tokenizer_config.json",
)
HUB = ("*.json", "*.txt", "*.model", "*.safetensors", "*.bin")  # what is fetched of an encoder
VOCABULARY = {  # one of them is there
    "bert": ("tokenizer.json", "vocab.txt", "vocab.json", "spiece.model", "spm.model", "sentencepiece.bpe.model"),
    "xlnet": ("tokenizer.json", "spiece.model"),
}
KEPT = "BENCH_ENCODER_DIGESTS"


def config_of(folder: Path) -> dict[str, Any]:
    """config.json. Raises UserError where it is missing or no JSON object."""
    if not (folder / "config.json").is_file():
        raise UserError(f"{folder} is no Hugging Face model folder: it has no config.json.")
    return _json(folder / "config.json")


def check_folder(kind: str, folder: Path) -> None:
    """Raises UserError where `folder` is no whole encoder of this kind ("bert" or "xlnet")."""
    config = config_of(folder)
    found = config.get("model_type")
    if not isinstance(found, str) or ("xlnet" in (found, kind) and found != kind):
        raise UserError(f"{folder} is a {found!r} model, but the front-end is {kind}: give a {kind} model.")
    if config.get("is_encoder_decoder") or config.get("is_decoder"):
        raise UserError(f"{folder} is a {found!r} model that generates text: give an encoder, such as BERT or RoBERTa.")
    if (folder / "adapter_config.json").exists() or config.get("transformers_weights") is not None:
        raise UserError(f"{folder} takes its weights from elsewhere: give the folder of a whole {kind} model.")
    if not any((folder / name).is_file() for name in VOCABULARY[kind]):
        raise UserError(f"{folder} has no tokenizer ({' or '.join(VOCABULARY[kind][:2])}): copy it there.")
    weights(folder)


def weights(folder: Path) -> list[str]:
    """Names of the files with the weights; the first one is of WEIGHTS. Raises UserError where they are not there."""
    name = next((name for name in WEIGHTS if (folder / name).is_file()), None)
    if name is None:
        raise UserError(f"{folder} has no weights: expected {WEIGHTS[0]} or {WEIGHTS[2]}.")
    if not name.endswith(".index.json"):
        return [name]
    found = _json(folder / name).get("weight_map")
    parts = sorted({str(part) for part in found.values()}) if isinstance(found, dict) else []
    missing = [part for part in parts if Path(part).name != part or not (folder / part).is_file()]
    if missing or not parts:
        raise UserError(f"{folder / name} names {missing[0] if missing else 'no file'}, which is not beside it.")
    return [name, *parts]


def digest(folder: Path, rule: str | None = RULE) -> str:
    """The sha256 of an encoder by `rule`, None for the first one. Raises UserError, also for an unknown rule."""
    if rule not in (RULE, None):
        raise UserError(f"The checksum of an encoder has rule {rule!r}, which this suite does not know: upgrade.")
    try:
        files = _first_files(folder) if rule is None else _files(folder)
        state = _state(folder, rule, files)
        known = kept_digests(KEPT)
        if state not in known:
            text = json.dumps([[path.name, sha256_file(path)] for path in files])
            if _state(folder, rule, files) != state:
                raise UserError(f"{folder} was written to while its checksum was made; try again.")
            known[state] = hashlib.sha256(text.encode()).hexdigest()
            os.environ[KEPT] = json.dumps(known)
        return known[state]
    except OSError as error:
        raise UserError(f"Cannot read the text encoder in {folder}: {error.strerror or error}.") from error


def _files(folder: Path) -> list[Path]:
    """What is loaded from `folder`, by name."""
    return sorted({*described_by(folder), *(folder / name for name in weights(folder))})


def described_by(folder: Path) -> list[Path]:
    """The files of an encoder that are not its weights: configuration and tokenizer, by name."""
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix in READ
        and not path.name.lower().startswith(NOT_LOADED)
        and not path.name.endswith(".index.json")
        and path.is_file()
    )


def _first_files(folder: Path) -> list[Path]:
    return sorted({path for pattern in FIRST_RULE for path in folder.glob(pattern)})


def _state(folder: Path, rule: str | None, files: list[Path]) -> str:
    """What changes when a file is written to or replaced; the time of change cannot be set by hand."""
    found = [(p.name, s.st_dev, s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns) for p in files for s in [p.stat()]]
    return hashlib.sha256(json.dumps([str(folder.resolve()), rule, found]).encode()).hexdigest()[:32]


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} is not readable JSON ({error}).") from error
    if not isinstance(found, dict):
        raise UserError(f"{path} is no JSON object.")
    return found
