"""CMU-MOSEI's size on this machine: importing it, opening it, and training on it, each within a limit.

    python benchmarks/mosei.py [--scale 1.0] [--folder DIR] [--rows HFFN,MFN] [--steps 12] [--demo] [--json]

Makes .csd files of CMU-MOSEI's size (mosei_files.py; 8.3 GB at scale 1, and 0.2 GB of corpus) in a new folder below
DIR, runs each step of mosei_steps.py in a process of its own, and deletes them. Ends with 1 where a limit is passed.
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROWS = ("HyCon-BERT", "MFN", "MULT", "HFFN")
IMPORT_MIB, OPEN_SECONDS, HOST_GIB, CARD_GIB = 1536, 0.5, 12, 24  # of the whole set; GIB: 2^30 bytes
NEEDED = 9.0e9  # bytes on the disk at scale 1
FIELDS = (("half_mib", "halfway"), ("end_mib", "at the end"), ("evaluated_mib", "after evaluating"))


def step(script: str, *arguments: str) -> dict[str, Any]:
    """What a step prints last. Its progress goes to the terminal."""
    command = [sys.executable, str(HERE / script), *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}")
    last = done.stdout.strip().splitlines()[-1]
    return json.loads(last) if last.startswith("{") else {"said": last}


def measure(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    files, data, demo = folder / "csd", str(folder / "data"), ["--demo"] if options.demo else []
    started = time.perf_counter()
    found: dict[str, Any] = {"made": step("mosei_files.py", str(files), "--scale", str(options.scale))["said"]}
    found["made_seconds"] = time.perf_counter() - started
    found["import"] = step("mosei_steps.py", "import", data, str(files))
    shutil.rmtree(files)
    found["open"] = step("mosei_steps.py", "open", data)
    found["rows"] = {}
    for row in options.rows:
        host = step("mosei_steps.py", "train", data, row, str(options.steps), *demo)
        found["rows"][row] = {"host": host, "card": step("mosei_steps.py", "card", data, row, *demo)}
    return found


def missed(found: dict[str, Any]) -> list[str]:
    """The limits that were passed, in words."""
    limits = [
        ("importing, MiB", found["import"]["peak_mib"], IMPORT_MIB),
        ("opening, seconds", found["open"]["again_seconds"], OPEN_SECONDS),
    ]
    for row, parts in found["rows"].items():
        limits.append((f"{row} on the host, GiB", parts["host"]["evaluated_mib"] / 2**10, HOST_GIB))
        limits.append((f"{row} on a card, GiB", parts["card"]["peak_mib"] / 2**10, CARD_GIB))
    return [f"{what}: {value:.2f}, at most {limit}" for what, value, limit in limits if value > limit]


def page(found: dict[str, Any]) -> str:
    imported, opened = found["import"], found["open"]
    lines = [
        f"{found['made']}.",
        "",
        f"Import: {imported['seconds']:.0f} s, {imported['cpu_seconds']:.0f} of them on the CPU, "
        f"{imported['peak_mib']:,.0f} MiB (at most {IMPORT_MIB:,}). "
        f"Opening: {opened['first_seconds']:.2f} s with the checksum, {opened['again_seconds']:.2f} s without.",
        "",
        "| row | batch | steps | host: after the longest batch | "
        + " | ".join(name for _, name in FIELDS)
        + " | card: splits | card: most |",
        "|---|" + "--:|" * (5 + len(FIELDS)),
    ]
    for row, parts in found["rows"].items():
        host, card = parts["host"], parts["card"]
        sizes = [host["longest_mib"], *(host[key] for key, _ in FIELDS), card["data_mib"], card["peak_mib"]]
        lines.append(f"| {row} | {host['batch_size']} | {host['steps']} | {' | '.join(f'{x:,.0f}' for x in sizes)} |")
    lines += ["", f"MiB. {platform.machine()}, Python {platform.python_version()}, one thread."]
    return "\n".join(lines + [f"Over its limit: {sentence}." for sentence in missed(found)])


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--scale", type=float, default=1.0, help="share of the videos (default: 1)")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="where there is room")
    parser.add_argument("--rows", type=lambda text: text.split(","), default=ROWS, help=f"default: {','.join(ROWS)}")
    parser.add_argument("--steps", type=int, default=12, help="shuffled training steps; 0: an epoch (default: 12)")
    parser.add_argument("--demo", action="store_true", help="small networks: to see that it works")
    parser.add_argument("--json", action="store_true", help="everything measured")
    options = parser.parse_args(arguments)
    free = shutil.disk_usage(options.folder).free
    if free < NEEDED * options.scale:
        raise SystemExit(f"{options.folder} has {free / 1e9:.1f} GB free, {NEEDED * options.scale / 1e9:.1f} needed.")
    with tempfile.TemporaryDirectory(prefix="mosei-", dir=options.folder) as folder:
        found = measure(Path(folder), options)
    print(json.dumps(found, indent=1) if options.json else page(found))
    return 1 if missed(found) else 0


if __name__ == "__main__":
    raise SystemExit(main())
