"""A `bench run` in small, in a process of its own: it runs fake_execute's specs."""

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent

DRIVER = """
import sys
from fake_execute import spec
from studies.engines.run import run
from studies.store.run_store import RunStore

def main(root, specs, executor, preload):
    kinds = []
    try:
        s = run(eval(specs), RunStore(root + "/results"), executor=executor, workers=2, data_root=root,
                execute="fake_execute:execute", preload=eval(preload), on_event=lambda e: kinds.append(e.kind))
    except KeyboardInterrupt:
        print("interrupted")
        sys.exit(130)
    print("done", len(s.done), "failed", len(s.failed), "skipped", len(s.skipped))

if __name__ == "__main__":
    main(*sys.argv[1:])
"""


def start_driver(tmp_path, specs, executor="local", preload=()):
    script = tmp_path / "driver.py"
    script.write_text(DRIVER)
    path = os.pathsep.join(map(str, (HERE.parent, HERE, tmp_path)))
    return subprocess.Popen(
        [sys.executable, script, tmp_path, specs, executor, repr(preload)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": path}, start_new_session=True,
    )  # fmt: skip


def parent(pid):
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def leases(runs):
    """Names of the files in the store's folder of leases."""
    folder = runs.root / "leases"
    return sorted(p.name for p in folder.iterdir()) if folder.exists() else []
