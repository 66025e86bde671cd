"""The steps of gpu_first.py, each run by it as a process of its own: `gpu_steps.py STEP --journal FILE ...`.

A step is a list of items. Each item's rows go to the journal as they come; one that raises is a row that says why, and
the next goes on. What the journal has of this call already is left out, and what there is no time for is named.
"""

from __future__ import annotations

import argparse
import datetime
import functools
import gc
import json
import os
import platform
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch
from gpu_first import NO_DEVICE, POISONED, append, read
from gpu_measure import VARIANTS, measure
from gpu_together import together
from gpu_training import FULL, QUICK, Size, loss_of, made_up, network, training_of

from hycon import train
from studies.engines.one_run import commit, device_name, weights_sha256
from studies.registry import MODELS, model_module
from studies.tables import TABLES, Row

Rows = Iterable[dict]
Item = tuple[str, Callable[[], Rows]]
ENOUGH = 8.0  # seconds: with less left, an item is not begun; few take longer
LIMIT = {"prediction": 1e-4, "loss": 1e-4, "gradient": 1e-3}  # fp32 without TF32, as tests/baselines/test_models.py
FLOOR = 1e-2  # a gradient is compared with itself, or with this share of the largest where it is nearly zero
SPEED_ROWS = ("HyCon-BERT", "MAG-BERT", "MULT-BERT", "MFN-BERT", "HyCon-XLNet")
EMOTIONS = 4  # IEMOCAP's
BITS_STEPS = 3
UNALIGNED_BATCH = 16  # chosen here, as the number of steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=["setting", *STEPS])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--journal", type=Path)
    parser.add_argument("--seconds", type=float, default=600.0, help="until this process is killed")
    parser.add_argument("--scratch", type=Path, help="a folder: `item` says what is being done")
    parser.add_argument("--twin", action="store_true", help="of step bits: print the rows; no journal")
    options = parser.parse_args()
    options.deadline = time.monotonic() + options.seconds
    options.size = QUICK if options.quick else FULL
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # `finally` ends what was started
    torch.set_num_threads(1)
    if options.step == "setting":
        check_device(options.device)
        print(json.dumps(setting(options)))
    elif options.twin:
        be_twin(options)
    else:
        carry_out(options.step, STEPS[options.step](options), options)


def check_device(device: str) -> None:
    """Ends with one sentence where the device is not there."""
    try:
        kind = torch.device(device).type
        if kind not in ("cpu", "cuda"):
            raise RuntimeError("expected cuda, cuda:1 or cpu")
        (torch.ones(1, device=device) + 1).item()  # also whether this build has kernels for the card
    except (RuntimeError, AssertionError) as error:  # "Torch not compiled with CUDA enabled" is an AssertionError
        reason = " ".join(str(error).split())[:200]
        print(
            f"No device {device!r} here ({reason}); --device cpu --quick tries the script without one.", file=sys.stderr
        )
        sys.exit(NO_DEVICE)


def setting(options: argparse.Namespace) -> dict[str, Any]:
    import transformers

    cuda = torch.device(options.device).type == "cuda"
    found = {
        "step": "setting",
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "device": torch.cuda.get_device_name(options.device) if cuda else "CPU",
        "processor": device_name("cpu"),
        "processors": len(os.sched_getaffinity(0)),
        "quick": options.quick,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "commit": commit(),
    }
    if cuda:
        found["memory_mib"] = torch.cuda.get_device_properties(options.device).total_memory / 2**20
        found |= {"cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version(), "driver": driver()}
    return found


def driver() -> str | None:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.split()[0]
    except (OSError, subprocess.SubprocessError, IndexError):
        return None


# ------------------------------------------------------------------------------------------------- one item


def carry_out(step: str, items: Iterable[Item], options: argparse.Namespace) -> None:
    """Every item that this call's journal does not have yet."""
    done = done_in_this_call(options.journal, step)
    for name, work in items:
        if name in done:
            continue
        if options.deadline - time.monotonic() < ENOUGH:
            append(options.journal, {"step": step, "item": name, "skipped": "no time was left"})
            continue
        (options.scratch / "item").write_text(name)
        error = None
        began = time.monotonic()
        try:
            for row in work():
                append(options.journal, {"step": step, "item": name, **row})
        except Exception as caught:
            error = why(caught)
            append(options.journal, {"step": step, "item": name, "failed": error})
        print(f"{name}: {error or 'done'} ({time.monotonic() - began:.1f} s)", flush=True)
        if error and lost_context(options.device):
            sys.exit(POISONED)
        gc.collect()  # networks refer to themselves; the next item's memory is measured
        (options.scratch / "item").write_text("")


def done_in_this_call(journal: Path, step: str) -> set[str]:
    done: set[str] = set()
    for row in read(journal):
        if row["step"] == "setting":
            done = set()
        elif row["step"] == step and "item" in row:
            done.add(row["item"])
    return done


def why(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def lost_context(device: str) -> bool:
    """After some CUDA errors everything else fails, until the process ends."""
    try:
        if torch.cuda.is_initialized():
            torch.cuda.synchronize(device)
            torch.ones(1, device=device).item()
    except torch.OutOfMemoryError:
        return False
    except RuntimeError:
        return True
    return False


def deterministic(found: list[warnings.WarningMessage]) -> list[str]:
    """What PyTorch says of operations that have no deterministic form, once each."""
    return sorted({str(w.message).split("\n")[0][:200] for w in found if "determinis" in str(w.message)})


# ------------------------------------------------------------------------------------------------- conformance


def conformance_items(options: argparse.Namespace) -> list[Item]:
    """Every model x front-end, and the emotions' loss; quick: a fifth of them."""
    every = [(model, text, 0) for model, entry in MODELS.items() for text in entry.text]
    every += [(model, "glove", EMOTIONS) for model, entry in MODELS.items() if "glove" in entry.text]
    return [
        (
            f"{model} {'emotions' if emotions else text}",
            lambda m=model, t=text, e=emotions: [conformance(m, t, e, options)],
        )
        for model, text, emotions in every[:: 5 if options.quick else 1]
    ]


def conformance(model: str, text: str, emotions: int, options: argparse.Namespace) -> dict:
    """The largest differences between the device and the CPU, in training mode (cuDNN's LSTMs have no backward pass in
    evaluation), without dropout; always small: the demo encoder, 13 utterances."""
    batch = made_up(text, QUICK, 13, emotions=emotions)
    found = []
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        for place in ("cpu", options.device):
            train.seed_everything(0, place)
            net = without_dropout(model, text, emotions).to(place).train()
            own = batch.to(place)
            prediction = net(own).prediction
            loss = loss_of(net, own)
            loss.backward()
            gradients = {n: p.grad.cpu() for n, p in net.named_parameters() if p.grad is not None}
            found.append((prediction.detach().cpu(), loss.detach().cpu(), gradients))
    (prediction, loss, gradients), (there, loss_there, gradients_there) = found
    if gradients.keys() != gradients_there.keys():
        raise ValueError("other parameters have gradients than on the CPU")
    scale = max(float(g.abs().max()) for g in gradients.values())
    apart = {n: difference(gradients_there[n], g, FLOOR * scale) for n, g in gradients.items()}
    worst = max(apart, key=apart.__getitem__)
    row = {"prediction": difference(there, prediction), "loss": difference(loss_there, loss), "gradient": apart[worst]}
    passed = all(row[name] <= limit for name, limit in LIMIT.items())
    return {**row, "worst": worst, "passed": passed, "deterministic": deterministic(warned)}


def without_dropout(model: str, text: str, emotions: int) -> torch.nn.Module:
    own = {f.name: 0.0 for f in fields(model_module(model).Config) if "dropout" in f.name}
    net = network(model, text, QUICK, emotions=emotions, **own)
    for module in net.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return net


def difference(one: torch.Tensor, other: torch.Tensor, floor: float = 1e-12) -> float:
    """The largest, relative to the largest of `other`; infinite where a value is not finite."""
    if not bool(torch.isfinite(one).all()):
        return float("inf")
    return float((one - other).abs().max()) / max(float(other.abs().max()), floor)


# ------------------------------------------------------------------------------------------------- equal bits


def bits_items(options: argparse.Namespace) -> list[Item]:
    """Every row of Table 1, and those that take unaligned corpora with one; quick: a fifth of them."""
    rows = TABLES["table1"].rows
    every = [(row, False) for row in rows]
    every += [(row, True) for row in rows if not getattr(model_module(row.model), "NEEDS_ALIGNED", False)]
    return [
        (f"{row.name}{', unaligned' if u else ''}", lambda r=row, u=u: [trained(r, u, options.size, options.device)])
        for row, u in every[:: 5 if options.quick else 1]
    ]


def trained(row: Row, unaligned: bool, size: Size, device: str) -> dict:
    """The hash of the weights after a few steps with dropout, and what PyTorch says of determinism."""
    training = training_of(row.model, row.text, size, epochs=1)
    if unaligned:  # of two processes at a time, MulT's attention over 500 x 375 steps has to fit the memory
        training = replace(training, batch_size=min(training.batch_size, UNALIGNED_BATCH))
    whole = made_up(row.text, size, BITS_STEPS * training.batch_size, unaligned=unaligned).to(device)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        train.seed_everything(0, device)
        net = network(row.model, row.text, size, **row.config).to(device)
        train.fit(net, whole, whole.slice(0, 8), training, seed=0)
    return {"weights": weights_sha256(net), "deterministic": deterministic(warned)}


def bits(options: argparse.Namespace) -> Iterator[Item]:
    """Each row trained in this process and, at the same time, in a twin; where that has ended, in a new one."""
    command = [sys.executable, __file__, "bits", "--twin", "--device", options.device]
    command += ["--journal", str(options.journal), *(["--quick"] if options.quick else [])]
    done = done_in_this_call(options.journal, "bits")
    twin = None
    try:
        for name, work in bits_items(options):
            if name in done:
                continue
            if twin is None or twin.poll() is not None:
                twin = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            yield name, functools.partial(compared, name, work, twin)
    finally:
        if twin is not None:
            twin.kill()
            twin.wait()


def compared(name: str, work: Callable[[], Rows], twin: subprocess.Popen) -> Rows:
    (own,) = work()
    other: dict = {}
    while other.get("item") != name:  # it may have gone through what failed here
        line = twin.stdout.readline()
        if not line:
            raise ChildProcessError("the twin process has ended")
        other = json.loads(line)
    if "failed" in other:
        raise ChildProcessError(f"in the twin process: {other['failed']}")
    yield {"equal": own["weights"] == other["weights"], "steps": BITS_STEPS, **own}


def be_twin(options: argparse.Namespace) -> None:
    """Print the rows that are not in the journal."""
    done = done_in_this_call(options.journal, "bits")
    for name, work in bits_items(options):
        if name in done:
            continue
        try:
            (row,) = work()
        except Exception as error:
            row = {"failed": why(error)}
        print(json.dumps({"item": name, **row}), flush=True)
        if "failed" in row and lost_context(options.device):
            sys.exit(POISONED)
        gc.collect()


# ------------------------------------------------------------------------------------------------- start and speed


def start(options: argparse.Namespace) -> Iterator[Item]:
    for text in ("bert", "glove"):
        yield f"{'HyCon-BERT' if text == 'bert' else 'EF-LSTM-GloVe'}", functools.partial(started, text, options)


def started(text: str, options: argparse.Namespace) -> Rows:
    """In the first process what is read comes from the disk, perhaps; in the second from memory."""
    script = str(Path(__file__).with_name("gpu_start.py"))
    for number in range(1 if options.quick else 2):
        command = [sys.executable, script, text, options.device, "quick" if options.quick else "full"]
        found = subprocess.run([*command, repr(time.time())], capture_output=True, text=True)
        if found.returncode:
            raise ChildProcessError((found.stderr.strip().splitlines() or ["it said nothing"])[-1])
        yield {"process": number + 1, **json.loads(found.stdout.splitlines()[-1])}


def speed(options: argparse.Namespace) -> Iterator[Item]:
    """First what most hours of Table 1 go to."""
    rows = {row.name: row for row in TABLES["table1"].rows}
    chosen = [rows[name] for name in SPEED_ROWS]
    vectors = [row for row in rows.values() if row.text == "glove"]
    if options.quick:
        chosen, vectors = chosen[::2], [rows["MULT-GloVe"]]
    for row in chosen:
        for variant in VARIANTS:
            yield named(row, variant.name, options)
    for variant in VARIANTS[1:2] + VARIANTS[:1] + VARIANTS[2:]:
        for row in vectors:
            yield named(row, variant.name, options)


def named(row: Row, variant: str, options: argparse.Namespace) -> Item:
    (chosen,) = (v for v in VARIANTS if v.name == variant)

    def work() -> Rows:
        for found in measure(row.model, row.text, chosen, options.size, options.device):
            yield {"row": row.name, "variant": variant, **found}

    return f"{row.name}, {variant}", work


STEPS: dict[str, Callable[[argparse.Namespace], Iterable[Item]]] = {
    "conformance": conformance_items,
    "bits": bits,
    "start": start,
    "speed": speed,
    "together": together,
}

if __name__ == "__main__":
    main()
