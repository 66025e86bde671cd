"""The page of gpu_first.py: Markdown from its rows. What was not measured reads so."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from typing import Any

from studies.tables import TABLES, Row

TRIALS, SEEDS = 50, 5  # sec. 4.4
EPOCHS = 25  # a run until early stopping; assumed, not measured
NONE = "not measured"
BASELINE = "eager, padded, fp32"
VARIANTS = (BASELINE, "fp32", "tf32", "bf16")
LIKE = {  # for a row that was not measured: who is most like it; next, the slowest with the same text, then of all
    ("bert", "mag"): "MAG-BERT",
    ("bert", "mult"): "MULT-BERT",
    ("bert", "mfn"): "MFN-BERT",
    ("bert", None): "HyCon-BERT",
    ("xlnet", None): "HyCon-XLNet",
    ("glove", None): "MULT-GloVe",
}

Rows = Sequence[dict]


def page(rows: Rows) -> str:
    rows = latest(rows)
    setting = next((row for row in rows if row["step"] == "setting"), {})
    parts = [head(setting, rows), conformance(rows), bits(rows), start(rows), speed(rows), together(rows)]
    return "\n".join([*parts, projection(rows, bool(setting.get("quick"))), left_out(rows)])


def latest(rows: Rows) -> list[dict]:
    """Of several calls on the same card, the last setting, and of each step the last call that measured something."""
    calls: list[list[dict]] = []
    for row in rows:
        if row["step"] == "setting" or not calls:
            calls.append([])
        calls[-1].append(row)
    last = setting_of(calls[-1]) if calls else {}
    alike = [c for c in calls if all(setting_of(c).get(k) == last.get(k) for k in ("device", "quick"))]
    found = [last] if last else []
    for step in ("conformance", "bits", "start", "speed", "together", "end"):
        own = [[row for row in call if row["step"] == step] for call in (alike if step != "end" else alike[-1:])]
        measured = [part for part in own if any(measures(row) for row in part)]
        tried = [part for part in own if part]
        found += (measured or tried or [[]])[-1]
    return found


def setting_of(call: list[dict]) -> dict:
    return call[0] if call[0]["step"] == "setting" else {}


def measures(row: dict) -> bool:
    return not row.keys() & {"failed", "skipped", "took"} and row["step"] != "setting"


def of(rows: Rows, step: str) -> list[dict]:
    return [row for row in rows if row["step"] == step and measures(row)]


# ------------------------------------------------------------------------------------------------- sections


def head(setting: dict, rows: Rows) -> str:
    said = ", ".join(f"{key} {value}" for key, value in setting.items() if key not in ("step", "device", "quick"))
    took = ", ".join(f"{row['step']} {row['took']:.0f} s" for row in rows if "took" in row)
    lines = [f"# {setting.get('device', 'Unknown device')}", "", "Written by `benchmarks/gpu_first.py`."]
    if setting.get("quick"):
        lines += ["", "**Tiny sizes (`--quick`): this page tries the script, its numbers say nothing.**"]
    return "\n".join([*lines, "", f"{said}.", "", f"Time: {took or NONE}.", ""])


def conformance(rows: Rows) -> str:
    own = of(rows, "conformance")
    lines = ["## Against the CPU", ""]
    lines += [
        "Demo encoder, 13 utterances, training mode without dropout, fp32 without TF32. The largest difference "
        "relative to the largest value: at most 1e-4 for predictions and loss, 1e-3 for a gradient (relative to a "
        "hundredth of the network's largest gradient where it is smaller).",
        "",
        outcome(rows, "conformance", sum(row["passed"] for row in own), len(own), "agree"),
    ]
    if not own:
        return "\n".join([*lines, ""])
    lines.append(f"Median difference of gradients: {number(statistics.median(row['gradient'] for row in own))}.")
    shown = [row for row in own if not row["passed"]]
    shown += sorted((row for row in own if row["passed"]), key=lambda row: -row["gradient"])[:5]
    cells = [
        (row["item"], *(number(row[k]) for k in ("prediction", "loss", "gradient")), row["worst"], yes(row["passed"]))
        for row in shown
    ]
    lines += ["", "Those that differ most:", ""]
    lines += table(("model, text", "prediction", "loss", "gradient", "of", "agrees"), cells)
    return "\n".join([*lines, *notes(own), ""])


def bits(rows: Rows) -> str:
    own = of(rows, "bits")
    lines = ["## The same bits", ""]
    steps = own[0]["steps"] if own else 3
    lines += [
        f"Two processes at the same time, {steps} training steps of each row of Table 1 with the same seed and random "
        "weights; the sha256 of all weights after them.",
        "",
        outcome(rows, "bits", sum(row["equal"] for row in own), len(own), "are equal"),
    ]
    lines += [f"- Different: {row['item']}" for row in own if not row["equal"]]
    return "\n".join([*lines, *notes(own), ""])


def start(rows: Rows) -> str:
    own = of(rows, "start")
    lines = ["## From a process's start to its first training step", ""]
    if not own:
        return "\n".join([*lines, f"{NONE.capitalize()}.", ""])
    names = list(own[0]["parts"])
    cells = [
        (row["item"], row["process"], number(row["seconds"]), *(number(row["parts"][name]) for name in names))
        for row in own
    ]
    lines += ["Seconds. Random weights: what reading trained ones and a corpus takes is not in it.", ""]
    return "\n".join([*lines, *table(("row", "process", "all", *names), cells, left=1), ""])


def speed(rows: Rows) -> str:
    found = merged(rows)
    lines = ["## Speed", ""]
    lines += [
        "Seconds of a training and a validation pass at CMU-MOSI's size, median (fastest to slowest); * is measured on "
        "a share of the batches and scaled. The first variant is what the field's code does: BERT or XLNet over all "
        "50 positions, BERT by eager attention, torch's own optimiser. On word vectors it is our network on sequences "
        "that all have 50 steps, with torch's own optimiser. Model FLOPs, hence MFU, are those of real steps, and with "
        "BERT or XLNet those of its layers only.",
        "",
    ]
    if not found:
        return "\n".join([*lines, f"{NONE.capitalize()}.", ""])
    cells = []
    for (name, variant), row in found.items():
        base = found.get((name, BASELINE), {}).get("seconds_per_epoch")
        spent = f"{number(row['seconds_per_epoch'])} ({number(row['fastest'])} to {number(row['slowest'])})"
        cells.append(
            (
                name,
                variant,
                spent + ("*" if row["share"] < 1 else ""),
                "no baseline" if base is None else f"{base / row['seconds_per_epoch']:.2f}",
                *(number(row.get(key)) for key in ("kernels_per_step", "launches_per_step", "host_waits_per_step")),
                number(row["tflop_per_second"]),
                NONE if row["mfu"] is None else f"{100 * row['mfu']:.2f} %",
                number(row.get("reserved_mib")),
                number(row.get("allocated_mib")),
            )
        )
    columns = ("row", "variant", "s/epoch", "times faster", "kernels a step", "launches a step", "host waits a step")
    columns += ("TFLOP/s", "MFU", "MiB reserved", "MiB allocated")
    return "\n".join([*lines, *table(columns, cells, left=2), ""])


def together(rows: Rows) -> str:
    own = of(rows, "together")
    lines = ["## Several runs at a time", ""]
    lines += ["HyCon-BERT: epochs a minute of all processes together, each counting in the same seconds.", ""]
    measured = [row for row in own if "processes" in row]
    cells = []
    for row in measured:
        precision, every = precision_of(row), row["epochs_per_second"]
        one = alone(measured, precision)
        gain = f"{every / one:.2f}" if one else NONE
        each = f"{number(60 * min(row['each']))} to {number(60 * max(row['each']))}"
        cells.append((row["mps"], precision, row["processes"], number(60 * every), gain, each))
    columns = ("MPS", "precision", "processes", "epochs/min", "times one without MPS", "each")
    lines += table(columns, cells, left=2) if cells else [f"{NONE.capitalize()}."]
    lines += ["", *(f"{row['unavailable']}." for row in own if "unavailable" in row)]
    if any(row.get("servers") == 0 for row in measured):
        lines += ["", "MPS's daemon named no server: whether these processes ran under it is not sure."]
    return "\n".join([*lines, ""])


def projection(rows: Rows, quick: bool) -> str:
    kinds = len(TABLES["table1"].rows)
    lines = [f"## Table 1: {(TRIALS + SEEDS) * kinds:,} runs on this device", ""]
    seconds = {key: row["seconds_per_epoch"] for key, row in merged(rows).items()}
    begun, again, hours = start_seconds(rows), start_seconds(rows, kept=True), (TRIALS + SEEDS) / 3600
    cells: list[tuple] = []
    stands: dict[str, list[str]] = {}  # which rows are taken as which -> in which variants
    for variant in VARIANTS:
        if not any(key[1] == variant for key in seconds):
            cells.append((variant, NONE, NONE, NONE, NONE))
            continue
        epochs, named = sum_of_epochs(seconds, variant)
        if named:
            for name in dict.fromkeys(named.values()):
                words = f"{', '.join(row for row in named if named[row] == name)} as {name}"
                stands.setdefault(words, []).append(variant)
        one = number(hours * (EPOCHS * epochs + begun * kinds))
        found = best_together(rows, variant)
        if found is None:
            cells.append((variant, one, NONE, NONE, NONE))
            continue
        gain, most, how = found
        several = hours * (EPOCHS * epochs / gain + again * kinds / most)
        cells.append((variant, one, number(several), how, f"{gain:.2f} times"))
    columns = ("variant", "hours, one after the other", "hours, several at a time", "how many", "gain")
    lines += table(columns, cells, left=1)
    lines += [
        "",
        f"Assumed: {EPOCHS} epochs a run, and {TRIALS + SEEDS} runs a row. Each run takes as long as with the default "
        f"configuration. A run's first step comes after {number(begun or None)} s, without imports, which workers "
        f"share. Where several run at a time it comes after {number(again or None)} s, as their workers keep context "
        "and kernels. "
        "Several at a time gain in every row what they gain in HyCon-BERT, and start side by side.",
        "",
        "Not in it: reading trained weights and corpora, the test split, writing records.",
        "",
        *(["Rows that were not measured are taken as others:", ""] if stands else []),
        *(f"- {' / '.join(variants)}: {words}." for words, variants in stands.items()),
    ]
    if quick:
        lines += ["", "Tiny sizes: these hours mean nothing."]
    return "\n".join([*lines, ""])


def left_out(rows: Rows) -> str:
    """What failed and what there was no time for."""
    lines = ["## Failed or left out", ""]
    for row in rows:
        for kind in ("failed", "skipped"):
            if kind in row:
                lines.append(
                    f"- {': '.join([row['step'], *([row['item']] if 'item' in row else [])])}: {kind}: {row[kind]}"
                )
    return "\n".join([*lines, *([] if len(lines) > 2 else ["Nothing."]), ""])


# ------------------------------------------------------------------------------------------------- pieces


def merged(rows: Rows) -> dict[tuple[str, str], dict]:
    """(row, variant) -> what was measured of it: times come first, counts later."""
    found: dict[tuple[str, str], dict] = {}
    for row in of(rows, "speed"):
        found.setdefault((row["row"], row["variant"]), {}).update(row)
    return {key: row for key, row in found.items() if "seconds_per_epoch" in row}


def precision_of(row: dict) -> str:
    """Of a row of step `together`; before November 2026 it had fp32 alone, and did not say so."""
    return row.get("precision", "fp32")


def alone(measured: Rows, precision: str) -> float | None:
    """Epochs a second of one process without MPS."""
    found = (r for r in measured if (r["mps"], r["processes"], precision_of(r)) == ("no", 1, precision))
    return next((r["epochs_per_second"] for r in found), None)


def best_together(rows: Rows, variant: str) -> tuple[float, int, str] | None:
    """(gain, processes, the same in words) where the most epochs a minute were counted in the variant's own precision,
    or else in fp32; None where nothing was."""
    measured = [row for row in of(rows, "together") if "processes" in row]
    for precision in dict.fromkeys((variant.split(", ")[-1], "fp32")):
        one = alone(measured, precision)
        own = [row for row in measured if precision_of(row) == precision]
        if one and own:
            best = max(own, key=lambda row: row["epochs_per_second"])
            how = f"{best['processes']}, MPS: {best['mps']}"
            said = how if variant.endswith(precision) else f"{how}, as in {precision}"
            return best["epochs_per_second"] / one, best["processes"], said
    return None


def start_seconds(rows: Rows, kept: bool = False) -> float:
    """Until the first step of a run with BERT, of its later processes; 0 where it was not measured.

    kept: in a worker that has done a run before, and so has context and kernels.
    """
    without = ("python", "imports", *(("context", "first step") if kept else ()))
    own = [
        r["seconds"] - sum(r["parts"].get(part, 0.0) for part in without)
        for r in of(rows, "start")
        if r["item"] == "HyCon-BERT"
    ]
    return min(own, default=0.0)


def sum_of_epochs(found: dict[tuple[str, str], float], variant: str) -> tuple[float, dict[str, str]]:
    """Seconds of one epoch of every row of Table 1, and who stands in for whom."""
    total, named = 0.0, {}
    for row in TABLES["table1"].rows:
        chosen = stand_in(row, found, variant)
        total += found[chosen]
        if chosen != (row.name, variant):
            named[row.name] = chosen[0] if chosen[1] == variant else f"{chosen[0]} ({chosen[1]})"
    return total, named


def stand_in(row: Row, found: dict[tuple[str, str], float], variant: str) -> tuple[str, str]:
    """The measurement to take for `row`: its own where there is one, in fp32 rather than another's."""
    likest = LIKE.get((row.text, row.model), LIKE[row.text, None])
    for name in (row.name, likest, LIKE[row.text, None]):
        for other in (variant,) if variant == BASELINE else (variant, "fp32"):
            if (name, other) in found:
                return name, other
    texts = {r.name: r.text for r in TABLES["table1"].rows}
    alike = [key for key in found if key[1] == variant]
    return max([key for key in alike if texts[key[0]] == row.text] or alike, key=found.__getitem__)


def outcome(rows: Rows, step: str, good: int, count: int, verb: str) -> str:
    failed = sum(row["step"] == step and "failed" in row for row in rows)
    left = sum(row["step"] == step and "skipped" in row for row in rows)
    if not count + failed:
        return f"{NONE.capitalize()}."
    return f"**{good} of {count + failed} {verb}**; {failed} failed, {left} left out."


def notes(rows: Rows) -> list[str]:
    """What PyTorch said of determinism, with who made it say so."""
    said: dict[str, list[str]] = {}
    for row in rows:
        for sentence in row.get("deterministic", ()):
            said.setdefault(sentence, []).append(row["item"])
    if not said:
        return ["", "PyTorch warned of no operation without a deterministic form."] if rows else []
    return ["", *(f"- PyTorch: {sentence} ({', '.join(items)})" for sentence, items in said.items())]


def table(columns: Sequence[str], cells: Iterable[Sequence[Any]], left: int = 1) -> list[str]:
    """left: how many columns are not numbers."""
    ruler = ["---"] * left + ["--:"] * (len(columns) - left)
    return [f"| {' | '.join(map(str, row))} |" for row in (columns, ruler, *cells)]


def number(value: float | None) -> str:
    if value is None:
        return NONE
    if not math.isfinite(value):
        return str(value)
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def yes(value: bool) -> str:
    return "yes" if value else "**no**"
