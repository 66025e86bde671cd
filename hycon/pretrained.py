"""Pretrained text encoders behind the front-ends `bert` and `xlnet`: found, identified, loaded.

An encoder is a Hugging Face name, a local folder, or "demo": a tiny, randomly initialised model over a small shipped
vocabulary, for the demo profile and the tests. A run's identity holds the sha256 of config, weights and vocabulary, so
a folder may move. Where a name stands for a folder of this machine, $BENCH_ENCODERS (JSON, name -> folder) says which.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections.abc import Collection, Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hycon.errors import UserError
from hycon.files import sha256_file
from hycon.offline import offline

if TYPE_CHECKING:
    from torch import nn

    from hycon.data.prepare import WordPieces

DEFAULT = {"bert": "bert-base-uncased", "xlnet": "xlnet-base-cased"}  # sec. 4.4(2), [12], [13]
DEMO = "demo"
FILES = (
    "config.json",
    "*.safetensors",
    "*.bin",
    "vocab.txt",
    "spiece.model",
    "tokenizer.json",
    "tokenizer_config.json",
)


def register(name: str, folder: str | Path) -> None:
    """Let `name` stand for `folder`, in this process and those that it starts."""
    known = json.loads(os.environ.get("BENCH_ENCODERS", "{}"))
    os.environ["BENCH_ENCODERS"] = json.dumps({**known, name: str(Path(folder).resolve())})


def identify(kind: str, name: str) -> dict[str, str]:
    """{"name", "sha256"} of an encoder; a folder is known by its last path component from then on."""
    if name == DEMO:
        text = json.dumps([kind, _demo_sizes(kind), list(demo_vocabulary())])
        return {"name": DEMO, "sha256": hashlib.sha256(text.encode()).hexdigest()}
    path = Path(name).expanduser()
    if path.is_dir():
        name = short_name(path)
        register(name, path)
    return {"name": name, "sha256": _digest(locate(kind, name))}


def short_name(name: str | Path) -> str:
    """What records call an encoder: a folder's own name, or its parent's where it is just called 'model'."""
    path = Path(name).expanduser()
    if not path.is_dir():
        return str(name)
    path = path.resolve()
    return path.parent.name if path.name in ("model", "snapshot", "pytorch") else path.name


@functools.lru_cache
def _digest(folder: Path) -> str:
    files = sorted({p for pattern in FILES for p in folder.glob(pattern)})
    text = json.dumps([[p.name, sha256_file(p)] for p in files])
    return hashlib.sha256(text.encode()).hexdigest()


def locate(kind: str, name: str) -> Path:
    """The local folder of an encoder; fetched from the Hugging Face hub if need be and if not offline."""
    known = json.loads(os.environ.get("BENCH_ENCODERS", "{}"))
    folder = Path(known.get(name, name)).expanduser()
    if not folder.is_dir():
        folder = _from_hub(kind, name)
    config = folder / "config.json"
    if not config.exists():
        raise UserError(f"{folder} is no Hugging Face model folder: it has no config.json.")
    found = json.loads(config.read_text()).get("model_type")
    if found != kind:
        raise UserError(f"{name} is a {found!r} model, but the front-end is {kind}: give a {kind} model.")
    return folder


def _from_hub(kind: str, name: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(name, allow_patterns=list(FILES), ignore_patterns=["*/*"], local_files_only=offline())
        )
    except Exception as error:  # the hub raises a dozen types, from validation to sockets
        raise UserError(
            f"The text encoder {name!r} is neither a folder nor in the local Hugging Face cache nor reachable "
            f"({type(error).__name__}); download it once, or give a folder: --encoder {kind}=FOLDER."
        ) from error


def modules(kinds: Collection[str]) -> list[str]:
    """What `load_model` and `load_tokenizer` import for these kinds: seconds of work that worker processes share."""
    names = [f"transformers.models.{kind}.modeling_{kind}" for kind in sorted(kinds)]
    return [*names, "transformers.models.auto.tokenization_auto"] if names else []


def load_model(kind: str, encoder: dict[str, str] | None, pooler: bool = False) -> nn.Module:
    """The encoder, BERT's without its pooler unless asked for. None: the architecture of bert-base-uncased or
    xlnet-base-cased, random weights."""
    from transformers import BertConfig, BertModel, XLNetConfig, XLNetModel

    if encoder is None or encoder["name"] == DEMO:
        sizes = _demo_sizes(kind) if encoder else {}
        if kind == "bert":
            return BertModel(BertConfig(**sizes), add_pooling_layer=pooler)
        base = {"vocab_size": 32000, "d_model": 768, "n_layer": 12, "n_head": 12, "d_inner": 3072}
        return XLNetModel(XLNetConfig(**(sizes or base)))
    folder = locate(kind, encoder["name"])
    if kind == "bert":
        return BertModel.from_pretrained(folder, add_pooling_layer=pooler)
    return XLNetModel.from_pretrained(folder)


def hidden_size(kind: str, encoder: dict[str, str] | None) -> int:
    if encoder is None:
        return 768
    if encoder["name"] == DEMO:
        return int(_demo_sizes(kind)["hidden_size" if kind == "bert" else "d_model"])
    config = json.loads((locate(kind, encoder["name"]) / "config.json").read_text())
    return int(config.get("hidden_size") or config["d_model"])


def load_tokenizer(kind: str, encoder: dict[str, str]) -> WordPieces:
    from hycon.data.prepare import WordPieces

    if encoder["name"] == DEMO:
        vocabulary = demo_vocabulary()
        unknown = vocabulary["[UNK]"]
        return WordPieces(
            lambda words: [_greedy(word, vocabulary) or [unknown] for word in words],
            cls=vocabulary["[CLS]"],
            sep=vocabulary["[SEP]"],
            pad=vocabulary["[PAD]"],
        )
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(locate(kind, encoder["name"]))

    def pieces(words: Sequence[str]) -> list[list[int]]:
        ids = tokenizer(list(words), add_special_tokens=False)["input_ids"] if words else []
        return [own or [tokenizer.unk_token_id] for own in ids]

    return WordPieces(pieces, cls=tokenizer.cls_token_id, sep=tokenizer.sep_token_id, pad=tokenizer.pad_token_id)


# ---------------------------------------------------------------------------------------------------- the demo encoder


@functools.lru_cache
def demo_vocabulary() -> dict[str, int]:
    lines = resources.files("hycon.data").joinpath("demo_vocabulary.txt").read_text().split()
    return {piece: i for i, piece in enumerate(lines)}


def _demo_sizes(kind: str) -> dict[str, Any]:
    size = len(demo_vocabulary())
    if kind == "bert":
        return {
            "vocab_size": size,
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "intermediate_size": 64,
        }
    return {"vocab_size": size, "d_model": 32, "n_layer": 2, "n_head": 2, "d_inner": 64}


def _greedy(word: str, vocabulary: dict[str, int]) -> list[int]:
    """WordPiece's longest match first; [] where no match exists."""
    ids, start = [], 0
    while start < len(word):
        for stop in range(len(word), start, -1):
            piece = ("##" if start else "") + word[start:stop]
            if piece in vocabulary:
                ids.append(vocabulary[piece])
                start = stop
                break
        else:
            return []
    return ids
