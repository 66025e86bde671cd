"""What a process that does one run after another puts back in between: the next run must give a fresh one's bits."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from operator import attrgetter
from typing import Any

import numpy as np

SIGNALS = (signal.SIGINT, signal.SIGTERM)
SWITCHES = {  # module of PyTorch -> its attributes that move numbers
    "backends.cuda.matmul": ("allow_tf32",),
    "backends.cudnn": ("allow_tf32", "benchmark", "deterministic"),
    "utils.deterministic": ("fill_uninitialized_memory",),
}
PAIRS = (  # of functions of PyTorch that tell a setting, and that make it
    ("get_default_dtype", "set_default_dtype"),
    ("get_deterministic_debug_mode", "set_deterministic_debug_mode"),
    ("get_num_threads", "set_num_threads"),
    ("get_rng_state", "set_rng_state"),
    ("is_grad_enabled", "set_grad_enabled"),
    ("is_warn_always_enabled", "set_warn_always"),
    ("backends.cuda.flash_sdp_enabled", "backends.cuda.enable_flash_sdp"),
    ("backends.cuda.mem_efficient_sdp_enabled", "backends.cuda.enable_mem_efficient_sdp"),
    ("backends.cuda.math_sdp_enabled", "backends.cuda.enable_math_sdp"),
    ("backends.cuda.cudnn_sdp_enabled", "backends.cuda.enable_cudnn_sdp"),
)


@contextlib.contextmanager
def put_back() -> Iterator[None]:
    """Whatever the block changes of this process's settings is as before afterwards.

    Not the GPU's random generators: every run seeds them. After an exception nothing is put back: it ends the process.
    """
    environment = dict(os.environ)
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    python, numpy = random.getstate(), np.random.get_state()
    restore = _pytorch() if "torch" in sys.modules else []
    with warnings.catch_warnings():
        yield
    for number, handler in handlers.items():
        signal.signal(number, handler)
    take_environment(environment)
    random.setstate(python)
    np.random.set_state(numpy)
    for call in restore:
        call()


@contextlib.contextmanager
def environment_set(values: Mapping[str, str | None]) -> Iterator[None]:
    """These variables are in this process's environment until the block ends; those with None are not."""
    before = {name: os.environ.get(name) for name in values}
    _put(values)
    try:
        yield
    finally:
        _put(before)


def _put(values: Mapping[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def take_environment(environment: Mapping[str, str]) -> None:
    """Make it this process's own."""
    for name in os.environ.keys() - environment.keys():
        del os.environ[name]
    os.environ.update(environment)


def _pytorch() -> list[Callable[[], Any]]:
    """What brings PyTorch's settings back to where they are now."""
    torch = sys.modules["torch"]
    pairs: list[Callable[[], Any]] = [
        partial(attrgetter(make)(torch), attrgetter(tell)(torch)()) for tell, make in PAIRS
    ]
    owners = [(attrgetter(module)(torch), name) for module, names in SWITCHES.items() for name in names]
    return pairs + [partial(setattr, owner, name, getattr(owner, name)) for owner, name in owners]
