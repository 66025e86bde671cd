"""Options of the commands that do runs, and what they set up: checkpoints, devices, and how runs share a GPU."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Iterator


def checkpointing(added: argparse.ArgumentParser) -> None:
    """The option of every command that trains."""
    added.add_argument(
        "--checkpoint-every",
        metavar="SECONDS",
        help="least time between checkpoints of a run; one that was cut goes on from the last, with the same bits "
        "(default: $BENCH_CHECKPOINT_EVERY or 600; 0: after each epoch; inf: none)",
    )


def keep_checkpoints(options) -> None:
    """Hand --checkpoint-every to the processes that train. Raises UserError for what is no number of seconds."""
    from studies.engines.options import CHECKPOINT_EVERY, checkpoint_every

    if options.checkpoint_every is not None:
        os.environ[CHECKPOINT_EVERY] = options.checkpoint_every
    checkpoint_every()


def placing(added: argparse.ArgumentParser) -> None:
    """The option of every command that does runs on several devices."""
    added.add_argument("--devices", default="cpu", metavar="LIST", help="cpu (default), or NVIDIA GPUs: cuda:0,cuda:1")


def sharing_gpus(added: argparse.ArgumentParser) -> None:
    """The option of every command that does runs on GPUs."""
    added.add_argument(
        "--mps",
        choices=("auto", "no"),
        default="auto",
        help="NVIDIA's Multi-Process Service, for runs that share a GPU of this machine: auto (default: where it is "
        "installed) or no",
    )


@contextlib.contextmanager
def gpus_shared(options, how) -> Iterator[None]:
    """In a `with` block: --mps, for runs that this machine does as `how` says."""
    from studies.engines.executors import DEFAULT
    from studies.engines.mps import sharing

    devices = how.devices if how.executor == DEFAULT else ()
    with sharing(devices, how.slots, how.workers, options.mps) as why:
        if why and not options.quiet:
            print(f"bench: without MPS, which lets runs share a GPU better: {why}", file=sys.stderr)
        yield
