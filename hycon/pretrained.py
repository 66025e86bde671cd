"""Pretrained text encoders behind the front-ends `bert` and `xlnet`: found, identified, loaded.

Behind `bert` may stand any encoder of [CLS] w.. [SEP] (hycon/encoder_families.py).

An encoder is a Hugging Face name, a local folder, or "demo": a tiny, randomly initialised model over a small shipped
vocabulary, for the demo profile and the tests. A run's identity holds the sha256 of all that is loaded
(hycon.encoder_files), so a folder may move; it is checked again where tokenizer and weights are loaded. Where a name or
a sha256 stands for a folder of this machine, $BENCH_ENCODERS (JSON, name or sha256 -> folder) says which.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hycon.encoder_families import FAMILIES, family_of
from hycon.encoder_files import HUB, READ, RULE, check_folder, config_of, digest, weights
from hycon.errors import UserError
from hycon.offline import offline

if TYPE_CHECKING:
    from torch import nn

    from hycon.data.prepare import WordPieces

DEFAULT = {"bert": "bert-base-uncased", "xlnet": "xlnet-base-cased"}  # sec. 4.4(2), [12], [13]
DEMO = "demo"
ENCODERS = "BENCH_ENCODERS"
LARGEST = 64 * 2**20  # bytes of a file of a Shell, chosen here: the tokenizer of XLM-RoBERTa has 17 MB
HEADS = ("pooler.",)  # what a checkpoint may lack: it begins random then, as a task's head does


@dataclass(frozen=True)
class Shell:
    """An encoder without its weights, which are in a trained model: configuration and tokenizer in `folder`."""

    folder: Path


def shell(folder: Path) -> Shell:
    """Raises UserError where anything stands there that is not read as plain data: links, large files, other kinds."""
    config_of(folder)
    for path in sorted(folder.iterdir()):
        if path.is_symlink() or not path.is_file() or path.suffix not in READ or path.stat().st_size > LARGEST:
            raise UserError(f"{path} is no configuration or tokenizer ({', '.join(READ)}, at most {LARGEST} bytes).")
    return Shell(folder)


def register(name: str, folder: str | Path) -> None:
    """Let `name`, or a sha256, stand for `folder`, in this process and those that it starts."""
    os.environ[ENCODERS] = json.dumps({**_registered(), name: str(Path(folder).resolve())})


def _registered() -> dict[str, str]:
    try:
        known = json.loads(os.environ.get(ENCODERS) or "{}")
    except ValueError:
        known = None
    if not isinstance(known, dict) or not all(isinstance(folder, str) for folder in known.values()):
        raise UserError(f"${ENCODERS} is not JSON of the form {{name: folder}}: correct or unset it.")
    return known


def identify(kind: str, name: str, *, fetch: bool = True) -> dict[str, str]:
    """{"name", "sha256", "rule"} of an encoder, which is fetched from the Hugging Face hub if need be and not offline.

    fetch: whether it may be.  Raises UserError where it is not here then.
    A folder is known by its last path component from then on. The demo's encoder has no rule.
    """
    if name == DEMO:
        text = json.dumps([kind, _demo_sizes(kind), list(demo_vocabulary())])
        return {"name": DEMO, "sha256": hashlib.sha256(text.encode()).hexdigest()}
    folder = Path(_registered().get(name, name)).expanduser()
    short = short_name(name)
    if not folder.is_dir():
        folder = _from_hub(kind, name, offline() or not fetch)
    check_folder(kind, folder)
    sha256 = digest(folder)
    register(sha256, folder)
    return {"name": short, "sha256": sha256, "rule": RULE}


def short_name(name: str | Path) -> str:
    """What records call an encoder: a folder's own name, or its parent's where it is just called 'model'."""
    path = Path(name).expanduser()
    if not path.is_dir():
        return str(name)
    path = path.resolve()
    return path.parent.name if path.name in ("model", "snapshot", "pytorch") else path.name


def locate(kind: str, encoder: dict[str, str]) -> Path:
    """The folder on this machine of an encoder that was identified. No network is used.

    Raises UserError where no folder that its sha256 or its name leads to has that sha256.
    """
    name, wanted, reason = encoder.get("name", ""), encoder.get("sha256", ""), "it is not here"
    for folder in _folders(kind, name, wanted):
        try:
            check_folder(kind, folder)
            if digest(folder, encoder.get("rule")) == wanted:
                return folder
            reason = f"{folder} holds another one: it was changed, or only has the same name"
        except UserError as error:
            reason = str(error).rstrip(".")
    raise UserError(
        f"There is no text encoder {name!r} with sha256 {wanted[:12]} on this machine ({reason}); give its folder with "
        f"--encoder {kind}=FOLDER, or in ${ENCODERS}."
    )


def missing_because(kind: str, encoder: dict[str, str]) -> str | None:
    """Why an encoder that was identified is not on this machine; None: it is."""
    if encoder.get("name") == DEMO:
        same = identify(kind, DEMO)["sha256"] == encoder.get("sha256")
        return None if same else "the demo's encoder is another one in this version of the suite"
    try:
        locate(kind, encoder)
    except UserError as error:
        return str(error).rstrip(".")
    return None


def _folders(kind: str, name: str, sha256: str) -> Iterator[Path]:
    known = _registered()
    for folder in (known.get(sha256), known.get(name), name):
        if folder and (path := Path(folder).expanduser()).is_dir():
            yield path
    with contextlib.suppress(UserError):
        yield _from_hub(kind, name, local=True)


def _from_hub(kind: str, name: str, local: bool) -> Path:
    """The folder of a model in the Hugging Face cache; with local=False it is fetched first."""
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=list(HUB), ignore_patterns=["*/*"], local_files_only=local))
    except Exception as error:  # the hub raises a dozen types, from validation to sockets
        raise UserError(
            f"The text encoder {name!r} is neither a folder nor in the local Hugging Face cache nor reachable "
            f"({type(error).__name__}); download it once, or give a folder: --encoder {kind}=FOLDER."
        ) from error


@contextlib.contextmanager
def _naming(folder: Path) -> Iterator[None]:
    """Whatever a library raises meanwhile becomes a UserError that names the folder."""
    try:
        yield
    except (UserError, MemoryError):
        raise
    except Exception as error:  # transformers, tokenizers and safetensors raise a dozen types
        raise UserError(f"The text encoder in {folder} cannot be loaded ({type(error).__name__}: {error}).") from error


@contextlib.contextmanager
def _reading(kind: str, encoder: dict[str, str]) -> Iterator[Path]:
    """The encoder's folder, to load from. Raises UserError where it was overwritten meanwhile, or cannot be loaded."""
    folder = locate(kind, encoder)
    with _naming(folder):
        yield folder
    if digest(folder, encoder.get("rule")) != encoder["sha256"]:
        raise UserError(f"The text encoder in {folder} was overwritten while it was loaded.")


def modules(kinds: Collection[str]) -> list[str]:
    """What `load_model` and `load_tokenizer` import for these kinds: seconds of work that worker processes share."""
    names = [f"transformers.models.{kind}.modeling_{kind}" for kind in sorted(kinds)]
    return [*names, "transformers.models.auto.tokenization_auto"] if names else []


def load_model(kind: str, encoder: dict[str, str] | Shell | None, pooler: bool = False) -> nn.Module:
    """The encoder, BERT's without its pooler unless asked for. None: the architecture of bert-base-uncased or
    xlnet-base-cased, random weights. Of a Shell too, the weights are random."""
    if isinstance(encoder, Shell):
        return _untrained(encoder.folder, pooler)
    from transformers import MODEL_MAPPING, AutoConfig, BertConfig, BertModel, XLNetConfig, XLNetModel

    if encoder is None or encoder["name"] == DEMO:
        sizes = _demo_sizes(kind) if encoder else {}
        if kind == "bert":
            return BertModel(BertConfig(**sizes), add_pooling_layer=pooler)
        base = {"vocab_size": 32000, "d_model": 768, "n_layer": 12, "n_head": 12, "d_inner": 3072}
        return XLNetModel(XLNetConfig(**(sizes or base)))
    with _reading(kind, encoder) as folder:
        model_type = str(config_of(folder)["model_type"])
        family = family_of(model_type)
        options: dict[str, Any] = {"add_pooling_layer": pooler} if family.pooler else {}
        architecture: Any = MODEL_MAPPING[type(AutoConfig.from_pretrained(folder, trust_remote_code=False))]
        with _quiet():
            model, found = architecture.from_pretrained(
                folder,
                output_loading_info=True,
                local_files_only=True,
                use_safetensors=".safetensors" in weights(folder)[0],
                attn_implementation=family.attention,
                **options,
            )
        missing = sorted(key for key in found["missing_keys"] if not key.startswith(HEADS))
        if missing:
            raise UserError(
                f"The weights in {folder} lack {len(missing)} of the model's tensors, such as {missing[0]}: they are "
                f"not those of a {model_type} model as transformers writes it."
            )
    return model


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No progress bar, which would fill a run's log and take a semaphore that a stopped command leaves behind, and no
    report of a head or a pooler that is left out: what is missing is checked here."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _untrained(folder: Path, pooler: bool) -> nn.Module:
    from transformers import MODEL_MAPPING, AutoConfig

    with _naming(folder):
        family = family_of(str(config_of(folder)["model_type"]))
        options: dict[str, Any] = {"add_pooling_layer": pooler} if family.pooler else {}
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
        architecture: Any = MODEL_MAPPING[type(config)]
        return architecture._from_config(config, attn_implementation=family.attention, **options)


def hidden_size(kind: str, encoder: dict[str, str] | None) -> int:
    if encoder is None:
        return 768
    if encoder["name"] == DEMO:
        return int(_demo_sizes(kind)["hidden_size" if kind == "bert" else "d_model"])
    with _reading(kind, encoder) as folder:
        config = config_of(folder)
        return int(config.get("hidden_size") or config.get("d_model") or config["dim"])


def positions(kind: str, encoder: dict[str, str]) -> int | None:
    """How many steps of a sentence an encoder has positions for; None: any number, since its positions are relative."""
    if kind == "xlnet":
        return None
    config = {} if encoder["name"] == DEMO else config_of(locate(kind, encoder))
    if config.get("position_biased_input") is False:  # DeBERTa's later versions
        return None
    found = config.get("max_position_embeddings", 512)  # the default of transformers' BertConfig
    found = found if isinstance(found, int) else 512
    if family_of(str(config.get("model_type", kind))).offset:
        found -= int(config.get("pad_token_id") or 1) + 1  # 1: RoBERTa's
    return found


def lacks_pooler(kind: str, encoder: dict[str, str]) -> str | None:
    """The encoder's model_type where its layers are not known or it has no pooler; None where MAG can read it."""
    if kind == "xlnet" or encoder["name"] == DEMO:
        return None
    model_type = str(config_of(locate(kind, encoder))["model_type"])
    return None if family_of(model_type).pooler else model_type


def read_with_padding(kind: str, encoder: dict[str, str]) -> str | None:
    """The encoder's model_type where it is read with padding, since nothing is known of its inside; else None."""
    if encoder["name"] == DEMO:
        return None
    model_type = str(config_of(locate(kind, encoder))["model_type"])
    return None if model_type in FAMILIES else model_type


def load_tokenizer(kind: str, encoder: dict[str, str] | Shell) -> WordPieces:
    if isinstance(encoder, Shell):
        with _naming(encoder.folder):
            return _tokenizer_in(kind, encoder.folder)
    if encoder["name"] == DEMO:
        return _demo_tokenizer()
    with _reading(kind, encoder) as folder:
        return _tokenizer_in(kind, folder)


def _tokenizer_in(kind: str, folder: Path) -> WordPieces:
    from transformers import AutoTokenizer

    from hycon.data.prepare import WordPieces

    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    special = (tokenizer.unk_token_id, tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.pad_token_id)
    if None in special or len(tokenizer) <= len(set(tokenizer.all_special_ids)):
        raise UserError(f"The tokenizer in {folder} has no vocabulary, or lacks [UNK], [CLS], [SEP] or [PAD].")

    # Byte-level vocabularies, such as RoBERTa's, know a word within a sentence by the space before it.
    alone, within = tokenizer(["a", " a"], add_special_tokens=False)["input_ids"]
    space = " " if kind == "bert" and alone != within else ""

    def pieces(words: Sequence[str]) -> list[list[int]]:
        ids = tokenizer([space + word for word in words], add_special_tokens=False)["input_ids"] if words else []
        return [own or [tokenizer.unk_token_id] for own in ids]

    unk, cls, sep, pad = special
    return WordPieces(pieces, cls=cls, sep=sep, pad=pad, unk=unk)


# ---------------------------------------------------------------------------------------------------- the demo encoder


@functools.lru_cache
def demo_vocabulary() -> dict[str, int]:
    lines = resources.files("hycon.data").joinpath("demo_vocabulary.txt").read_text().split()
    return {piece: i for i, piece in enumerate(lines)}


def _demo_tokenizer() -> WordPieces:
    from hycon.data.prepare import WordPieces

    vocabulary = demo_vocabulary()
    unknown = vocabulary["[UNK]"]
    return WordPieces(
        lambda words: [_greedy(word, vocabulary) or [unknown] for word in words],
        cls=vocabulary["[CLS]"],
        sep=vocabulary["[SEP]"],
        pad=vocabulary["[PAD]"],
        unk=unknown,
    )


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
