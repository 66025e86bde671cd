"""The steps of mosei.py, each in a process of its own: `python benchmarks/mosei_steps.py STEP DATA ...` prints JSON.

    import FOLDER     `bench data import`: seconds, those of the CPU, the process's largest resident set
    open              seconds to open the corpus, first and again (the least of AGAIN)
    train ROW STEPS   the largest resident set after the batch of the longest utterances, halfway and at the end of
                      STEPS shuffled ones (0: all of an epoch), and after evaluating the longest validation utterances
    card ROW          bytes of tensors that live on a GPU at once, counted without one (tests/pretended_gpu.py), over
                      the batch of the longest utterances and two shuffled ones. What libraries take, CUDA's
                      context included, is not in it, nor gaps between tensors.

An epoch's batches are random: none needs more tensors than the one of the longest utterances. The training loop, the
optimiser and the copy of the best weights are the suite's own.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import time
import weakref
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))  # pretended_gpu

import torch
from gpu_training import FULL, QUICK, Size, network, training_of
from torch.utils._python_dispatch import TorchDispatchMode

from hycon import train
from hycon.data import load
from hycon.data.batch import Batch, form_of
from hycon.data.prepare import WordPieces, prepare
from hycon.host import keep_freed_memory

ROWS = {"HyCon-BERT": ("hycon", "bert"), "MFN": ("mfn", "glove"), "MULT": ("mult", "glove"), "HFFN": ("hffn", "glove")}
SIZE = replace(FULL, dims={**FULL.dims, "vision": 35})  # CMU-MOSEI's FACET
DEMO_SIZE = replace(QUICK, dims=SIZE.dims)
EVERY = 4  # one word of so many has two pieces: 1.24 a word, as in gpu_training
AGAIN = 5
PIECE = 512  # bytes: CUDA's allocator gives multiples of it


def peak_mib() -> float:
    """This process's largest resident set until now. The parent's counts in what getrusage() says, not here."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 2**10


# ------------------------------------------------------------------------------------------------- import, open


def imported(data: str, folder: str) -> dict[str, float]:
    from studies.cli import main

    started = time.perf_counter()
    code = main(["data", "import", "mosei", folder, "--text-vectors", f"{folder}/glove.txt", "--data", data])
    if code:
        raise SystemExit(code)
    return {"seconds": time.perf_counter() - started, "cpu_seconds": time.process_time(), "peak_mib": peak_mib()}


def opened(data: str) -> dict[str, float]:
    seconds = []
    for _ in range(1 + AGAIN):
        started = time.perf_counter()
        load("mosei", data)
        seconds.append(time.perf_counter() - started)
    return {"first_seconds": seconds[0], "again_seconds": min(seconds[1:])}


# ------------------------------------------------------------------------------------------------- training


def splits_of(data: str, text: str, size: Size) -> dict[str, Batch]:
    least, most = (5, 90) if size.demo else (1000, 30000)

    def pieces(words: Any) -> list[list[int]]:
        return [[least + i % (most - least)] * (2 if i % EVERY == 0 else 1) for i, _ in enumerate(words)]

    tokenizer = WordPieces(pieces, cls=2, sep=3, pad=0) if form_of(text) == "tokens" else None
    return prepare(load("mosei", data), text, tokenizer=tokenizer)


def longest(split: Batch, count: int) -> Batch:
    return split.take(torch.argsort(split.text.lengths, descending=True, stable=True)[:count])


def parts_of(splits: dict[str, Batch], batch_size: int, steps: int) -> tuple[Batch, Batch, Batch]:
    """The batch of the longest training utterances, `steps` shuffled ones, the longest validation utterances."""
    order = torch.randperm(len(splits["train"]), generator=torch.Generator().manual_seed(0))
    shuffled = splits["train"].take(order[: steps * batch_size] if steps else order)
    return longest(splits["train"], batch_size), shuffled, longest(splits["valid"], 2 * train.EVAL_ROWS)


def trained(data: str, row: str, steps: int, size: Size = SIZE) -> dict[str, float]:
    keep_freed_memory()  # as in the runs of `bench`
    torch.set_num_threads(1)
    model, text = ROWS[row]
    splits, training = splits_of(data, text, size), replace(training_of(model, text, size), epochs=1)
    train.seed_everything(0)
    net = network(model, text, size)
    found = {"start_mib": peak_mib(), "utterances": len(splits["train"]), "batch_size": training.batch_size}
    worst, shuffled, valid = parts_of(splits, training.batch_size, steps)
    train.fit(net, worst, valid.slice(0, 1), training, seed=0)
    found["longest_mib"] = peak_mib()
    peaks: list[float] = []
    hook = net.register_forward_hook(lambda *_: peaks.append(peak_mib()))
    started = time.perf_counter()
    train.fit(net, shuffled, valid.slice(0, 1), training, seed=0)
    hook.remove()
    found["seconds"] = time.perf_counter() - started
    found |= {"steps": len(peaks) - 1, "half_mib": peaks[len(peaks) // 2], "end_mib": peak_mib()}
    train.evaluate(net, valid, training.precision)
    return {**found, "evaluated_mib": peak_mib()}


# ------------------------------------------------------------------------------------------------- a card, counted


class Held(TorchDispatchMode):
    """Bytes of tensors that were made within it and live; most: the most there were at once."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = self.most = 0
        self.known: dict[int, Any] = {}  # of a live storage

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for x in _tensors(out):
            self._seen(x.untyped_storage())
        return out

    def _seen(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key in self.known:
            return
        size = -(-storage.nbytes() // PIECE) * PIECE
        self.bytes += size
        self.most = max(self.most, self.bytes)
        self.known[key] = weakref.finalize(storage, self._gone, key, size)

    def _gone(self, key: int, size: int) -> None:
        self.bytes -= size
        self.known.pop(key, None)


def _tensors(out: Any) -> Iterator[torch.Tensor]:
    if isinstance(out, torch.Tensor):
        yield out
    elif isinstance(out, (list, tuple)):
        for item in out:
            yield from _tensors(item)


def counted(data: str, row: str, steps: int = 2, size: Size = SIZE) -> dict[str, float]:
    """Everything that a run puts on its GPU: the splits, the weights and what training needs."""
    from pretended_gpu import PretendedGPU

    torch.set_num_threads(1)
    model, text = ROWS[row]
    splits, training = splits_of(data, text, size), replace(training_of(model, text, size), epochs=1)
    train.seed_everything(0)
    net = network(model, text, size)
    with Held() as held, PretendedGPU():
        there = {name: split.to("cuda") for name, split in splits.items()}
        data_bytes = held.bytes
        net.to("cuda")
        gc.collect()
        found = {"data_mib": data_bytes / 2**20, "batch_size": training.batch_size}
        worst, shuffled, valid = parts_of(there, training.batch_size, steps)
        train.fit(net, worst, valid.slice(0, 1), training, seed=0)
        found["longest_mib"] = held.most / 2**20
        highest, before, held.most = held.most, held.bytes, 0  # what is made once is there by now
        train.fit(net, shuffled, valid.slice(0, 1), training, seed=0)
        found["step_mib"] = (held.most - before) / 2**20
        train.evaluate(net, valid, training.precision)
        found["peak_mib"] = max(highest, held.most) / 2**20
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("step", choices=("import", "open", "train", "card"))
    parser.add_argument("data")
    parser.add_argument("arguments", nargs="*")
    parser.add_argument("--demo", action="store_true", help="the demo encoder and sizes")
    options = parser.parse_args()
    size = DEMO_SIZE if options.demo else SIZE
    if options.step == "import":
        found = imported(options.data, options.arguments[0])
    elif options.step == "open":
        found = opened(options.data)
    elif options.step == "train":
        found = trained(options.data, options.arguments[0], int(options.arguments[1]), size)
    else:
        found = counted(options.data, options.arguments[0], size=size)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
