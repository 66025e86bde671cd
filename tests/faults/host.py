"""Runs `bench` many times without importing torch each time: every request is a fork of this process.

Takes JSON lines {"arguments": [...], "out": FILE, "fake": bool}. Each starts a new session that runs `studies.cli.main`
with its output in FILE; FILE.pid says its pid, and FILE.code, once it has ended, its exit code. fake: training is
fake_training's, everything else is the real thing.
"""

import atexit
import gc
import importlib
import json
import os
import signal
import sys

# What commands import, all of it below: the workers of a session import this file, too.
HEAVY = (
    "torch", "optuna.storages.journal", "sqlalchemy.orm", "scipy.special", "tabulate", "hycon.train",
    "hycon.pretrained", "hycon.data.importers.check", "hycon.data.importers.synthetic", "hycon.data.batch",
    "baselines.ef_lstm", "baselines.lf_lstm", "baselines.tfn", "studies.aggregate.cells", "studies.engines.run",
    "studies.engines.progress", "studies.store.quarantine", "studies.aggregate.table", "studies.aggregate.render",
    "studies.search.ledger",
)  # fmt: skip


def fake_training() -> None:
    from studies.engines import run

    real = run.run
    fake = {"execute": "fake_training:execute", "preload": ("numpy",)}
    run.run = lambda specs, store, **options: real(specs, store, **{**options, **fake})


def session(request: dict) -> None:
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    out = os.open(request["out"], os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(out, 1)
    os.dup2(out, 2)
    if request["fake"]:
        fake_training()
    code = importlib.import_module("studies.cli").main(request["arguments"])
    atexit._run_exitfuncs()  # multiprocessing's among them; tearing down torch takes longer than all the rest
    sys.stdout.flush()
    os._exit(code)


def say(file: str, number: int) -> None:
    with open(f"{file}.new", "w") as handle:
        handle.write(str(number))
    os.replace(f"{file}.new", file)


def keeper(request: dict) -> None:
    """Starts the session and waits for it: host and test have other things to do."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    pid = os.fork()
    if pid == 0:
        session(request)
    say(request["out"] + ".pid", pid)
    _, status = os.waitpid(pid, 0)
    say(request["out"] + ".code", os.waitstatus_to_exitcode(status))
    os._exit(0)


if __name__ == "__main__":
    for name in HEAVY:
        importlib.import_module(name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # keepers need not be waited for
    gc.freeze()
    for line in sys.stdin:
        if os.fork() == 0:
            keeper(json.loads(line))
