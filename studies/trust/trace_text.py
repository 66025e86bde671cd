"""What `bench show` prints: the data of studies.trust.trace on 80 columns."""

from __future__ import annotations

import string
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from studies.document.blocks import headings, numbers
from studies.document.plot import plot
from studies.document.text import table
from studies.document.words import NOTHING, count_of, mean_sd, one_line, plain, settings
from studies.tables import TABLES, Column, narrowed

WIDTH = 80
LABEL = 11  # columns before what a line says
SHARES = ("acc", "f1")  # metrics that are printed in percent
LOSS = 4  # decimals
OPTIONS = 55  # columns beside a trial's number, run and loss
ID, SHORT = 16, 8  # characters of a run's id, and of one where a line has no room for all


def text(found: Mapping[str, Any], *, ascii_only: bool = False) -> str:
    """A cell, a run or a study, as its `kind` says, without a newline at the end."""
    if found["kind"] == "run":
        return _run(found, ascii_only)
    return _cell(found) if found["kind"] == "cell" else _study(found)


def _line(label: str, said: str) -> str:
    return textwrap.fill(
        one_line(said),
        WIDTH,
        initial_indent=f"{label:{LABEL}} ",
        subsequent_indent=" " * (LABEL + 1),
        break_on_hyphens=False,
    )


def _lines(pairs: Iterable[tuple[str, str | None]]) -> str:
    return "\n".join(_line(label, said) for label, said in pairs if said)


def _joined(*parts: str) -> str:
    return "\n\n".join(filter(None, parts))


def _commands(found: Sequence[str]) -> str:
    """Each on a line of its own, never broken, so that it can be copied."""
    return "\n".join(f"  {command}" for command in found)


def _loss(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.{LOSS}f}"


# ------------------------------------------------------------------------------------------------- a cell


def _cell(found: Mapping[str, Any]) -> str:
    title = f"{found['table']} {found['row']} on {found['corpus']}"
    if not found["runs"]:
        study = found["study"] and f"study {found['study']['id']}"
        said = _lines([("status", found["status"]), ("why", found["reason"]), ("study", study)])
        return _joined(title, said, _commands(found["next"]))
    columns = _columns(found["table"], found["metrics"])
    runs = found["runs"]
    return _joined(
        title,
        _lines(
            [
                ("status", f"{found['status']}, {count_of(found['n'], 'seeded run')}, protocol {found['protocol']}"),
                ("short of", found["reason"]),
                ("encoder", found["encoder"]),
                ("no verdict", "; ".join(found["not_comparable_because"])),
                ("notes", "; ".join(note for note in found["notes"] if note not in found["not_comparable_because"])),
                ("code", _changed(found["changed_code"])),
            ]
        ),
        _metrics(found["metrics"], columns, runs),
        _runs(runs),
        _lines(_search(found["study"], found["search"])) if found["study"] else "",
        _commands(found["next"]),
    )


def _columns(name: str, metrics: Mapping[str, Any]) -> list[Column]:
    """The columns of a table, or bare ones of an emotion corpus with emotions of its own."""
    tables = [TABLES[name]] if name in TABLES else TABLES.values()  # one of the reader's own has columns of these
    known = {column.metric: column for table in tables for column in (*table.columns, *narrowed(table.columns))}
    return [known.get(metric) or Column(metric, metric, 1, 1, True) for metric in metrics]


def _metrics(metrics: Mapping[str, Any], columns: Sequence[Column], runs: Sequence[Mapping[str, Any]]) -> str:
    """A line for each metric: mean ± sd (n), the paper's number and verdict, and the value of every run in order."""
    beside = any("verdict" in metrics[column.metric] for column in columns)
    lines = []
    for column in columns:
        one, show = metrics[column.metric], f",.{column.decimals}f"
        values = [run["metrics"][column.metric] for run in runs]
        papers = [NOTHING if one.get("paper") is None else format(one["paper"], show), one.get("verdict", "")]
        lines.append(
            [
                column.heading,
                NOTHING if one["mean"] is None else mean_sd(one["mean"], one["sd"], one["n"], column.decimals),
                *(papers if beside else ()),
                "\n".join(textwrap.wrap(" ".join(NOTHING if v is None else format(v, show) for v in values), 26)),
            ]
        )
    return table(headings("metric", "mean ± sd (n)", *(("paper", "verdict") if beside else ()), "each run"), lines)


def _runs(runs: Sequence[Mapping[str, Any]]) -> str:
    lines = [
        [
            run["id"],
            str(run["seed"]),
            _loss(run["valid_loss"]),
            str(run["best_epoch"] or NOTHING),
            "" if run["status"] == "done" else run["status"],
        ]
        for run in runs
    ]
    last = headings("") if any(line[-1] for line in lines) else ()
    return table(
        (*headings("seeded run", "seed"), *numbers("validation loss", "best epoch"), *last),
        lines if last else [line[:-1] for line in lines],
    )


def _search(study: Mapping[str, Any], budget: str) -> list[tuple[str, str | None]]:
    won, drawn = study["winner"], study["drawn"]
    loss = f", validation loss {_loss(study['winner_valid_loss'])}" if won else ""
    whose = f" of study {study['winner_of']}" if study["winner_of"] else ""
    return [
        ("study", f"{study['id']}{f': {budget}' if budget else ''}"),
        ("winner", f"{won}{whose}{loss}" if won else None),
        ("drawn", settings(drawn) if drawn else None),
        ("row", settings(study["row"]) if study["row"] else None),
        ("fixed", settings(study["fixed"]) if study["fixed"] else None),
    ]


def _changed(changed: Mapping[str, Sequence[str]]) -> str:
    names = sorted({name for files in changed.values() for name in files})
    return f"CHANGED since, with VERSION as it was: {', '.join(names)}" if names else ""


# ------------------------------------------------------------------------------------------------- a run


def _run(found: Mapping[str, Any], ascii_only: bool) -> str:
    spec = found["spec"]
    encoder = spec["encoder"] and f"{spec['encoder'].get('name')} (sha256 {spec['encoder'].get('sha256', '')[:12]})"
    versions = ", ".join(f"{name} {version}" for name, version in found["environment"].items())
    return _joined(
        f"run {found['id']}: {found['status']}",
        _lines(
            [
                ("why", found["reason"]),
                ("model", f"{spec['model']} version {spec['version']}, text {spec['text']}, suite {spec['suite']}"),
                ("encoder", encoder),
                ("corpus", f"{spec['corpus']} (sha256 {spec['data'][:12]})"),
                ("seed", str(spec["seed"])),
                *(
                    ("belongs to", f"study {one['study']}: {one['as']}; {', '.join(one['rows']) or 'in no table'}")
                    for one in found["belongs_to"]
                ),
            ]
        ),
        _options(spec, found["defaults"]),
        _curve(found, ascii_only),
        _protocols(found["metrics"]),
        _lines(
            [
                ("cost", _cost(found)),
                ("started", found["started"]),
                ("attempts", _attempts(found)),
                ("device", f"{found['device'] or 'not recorded'}; {count_of(spec['threads'], 'thread')}"),
                ("versions", versions or "not recorded"),
                ("commit", found["commit"] or "not recorded"),
                ("code", found["code_state"]),
                ("weights", found["weights_sha256"] and f"sha256 {found['weights_sha256'][:16]}"),
                ("notes", "; ".join(found["notes"])),
                ("log", found["log"] or "none: the run printed nothing, or its log is not kept"),
                ("make again", found["verify_not_here"] and f"not by this code: the run is {found['verify_not_here']}"),
            ]
        ),
        _commands([found["verify"]] if found["verify"] else []),
    )


def _options(spec: Mapping[str, Any], usual: Mapping[str, Mapping[str, Any]] | None) -> str:
    """The configuration, with what differs from the model's default first and marked."""
    given = {part: spec[part] for part in ("config", "training")}
    if usual is None:
        marks = "defaults of another version are not known here"
        return "\n".join((_line("options", marks), *(_line(f"  {part}", settings(given[part])) for part in given)))
    lines = []
    for part, own in given.items():
        apart = usual[part]
        lines += [_line(f"  {part}", settings({k: v for k, v in own.items() if k not in apart}))]
        lines += [f"{'':{LABEL - 1}}* {k} = {plain(own[k])} (default {plain(default)})" for k, default in apart.items()]
    return "\n".join((_line("options", "* differs from the model's default"), *lines))


def _curve(found: Mapping[str, Any], ascii_only: bool) -> str:
    curve = found["curve"]
    if not curve:
        return ""
    series = {
        f"{kind} loss": [epoch.get(f"{key}_loss") for epoch in curve]
        for kind, key in (("train", "train"), ("validation", "valid"))
    }
    return plot(series, found["best_epoch"], plain=ascii_only)


def _protocols(metrics: Mapping[str, Any]) -> str:
    """Every split and protocol (of emotions: every emotion), shares in percent as in the tables."""
    lines = {f"{split} {name}": values for split, by_name in metrics.items() for name, values in _flat(by_name)}
    if not lines:
        return ""
    names = list(dict.fromkeys(name for values in lines.values() for name in values))
    heads = (*headings("split, protocol"), *numbers(*names))
    return table(
        heads, [[label, *(_share(name, values.get(name)) for name in names)] for label, values in lines.items()]
    )


def _flat(by_name: Mapping[str, Any]) -> Iterable[tuple[str, Mapping[str, Any]]]:
    for name, values in by_name.items():
        if any(isinstance(value, Mapping) for value in values.values()):
            yield from ((emotion if name == "emotions" else f"{name} {emotion}", v) for emotion, v in values.items())
        else:
            yield name, values


def _share(name: str, value: float | None) -> str:
    if value is None:
        return NOTHING
    return f"{100 * value:.1f}" if name.startswith(SHARES) else f"{value:.3f}"


def _cost(found: Mapping[str, Any]) -> str:
    known = [
        ("{:.1f} s", found["seconds"]),
        ("{:.2f} s an epoch", found["seconds_per_epoch"]),
        ("{:,.0f} MiB at most", found["peak_memory_mib"]),
        ("{:,} parameters", found["parameters"]),
        ("{:,.0f} J", found["energy_joules"]),
    ]
    return ", ".join(shape.format(value) for shape, value in known if value is not None)


def _attempts(found: Mapping[str, Any]) -> str:
    before = "; ".join(found["failures"])
    return f"{found['attempts']}{f'; before: {before}' if before else ''}" if found["attempts"] > 1 else ""


# ------------------------------------------------------------------------------------------------- a study


def _study(found: Mapping[str, Any]) -> str:
    kind = (
        "measured, not searched" if found["measured"] else "the winner of another study" if found["winner_of"] else ""
    )
    done = sum(trial["status"] == "done" for trial in found["trials"])
    searched = f"{done} of {count_of(len(found['trials']), 'trial')} done" if found["trials"] else kind
    encoder = found["encoder"] and found["encoder"].get("name")
    runs, metrics = found["runs"], found["metrics"]
    name = found["rows"][0].partition(" ")[0] if found["rows"] else "table1"
    columns = _columns(name, metrics)
    return _joined(
        f"study {found['id']}: {searched}, {count_of(len(runs), 'seeded run')} done or failed",
        _lines(
            [
                ("NOT SOUND", found["unsound"]),
                ("rows", ", ".join(found["rows"]) or "in no table"),
                ("model", f"{found['model']} version {found['model_version']}, text {found['text']}"),
                ("encoder", encoder),
                ("corpus", f"{found['corpus']} (sha256 {found['data'][:12]}), profile {found['profile']}"),
                ("row", settings(found["row"]) if found["row"] else None),
                ("fixed", settings(found["options"]) if found["options"] else None),
                ("winner", _winner(found)),
                ("to do", ", ".join(found["runs_to_do"])),
            ]
        ),
        _trials(found["trials"]),
        _metrics(metrics, columns, runs) if metrics else "",
        _runs(runs) if runs else "",
        _commands(found["next"]),
    )


def _winner(found: Mapping[str, Any]) -> str | None:
    if found["winner"] is None:
        return None if found["measured"] else "not known yet"
    whose = f" of study {found['winner_of']}" if found["winner_of"] else ""
    return f"{found['winner']}{whose}: {settings(found['chosen'])}"


def _trials(trials: Sequence[Mapping[str, Any]]) -> str:
    """Best first, a column for each option that was drawn."""
    if not trials:
        return ""
    names = list(dict.fromkeys(name for trial in trials for name in trial["options"]))
    whole = _trial_table(trials, names)
    if max(map(len, whole.splitlines())) > WIDTH:
        whole = _narrow_table(trials, names)
    return f"{whole}\n* the winner; best trial first, by validation loss"


def _trial_table(trials: Sequence[Mapping[str, Any]], names: Sequence[str]) -> str:
    lines = [
        [*_first(trial, ID), str(trial["best_epoch"] or NOTHING), *(_option(trial, name) for name in names)]
        for trial in trials
    ]
    return table((*numbers("trial"), *headings("run"), *numbers("loss", "epoch", *names)), lines)


def _narrow_table(trials: Sequence[Mapping[str, Any]], names: Sequence[str]) -> str:
    """A letter for each option, one space between them, the run's id shortened, no epoch."""
    letters = list(string.ascii_letters[: len(names)])
    options = [letters, *([_option(trial, name) for name in names] for trial in trials)]
    widths = [max(map(len, column)) for column in zip(*options, strict=True)]
    drawn = [_folded([f"{v:>{width}}" for v, width in zip(line, widths, strict=True)]) for line in options]
    lines = [[*_first(trial, SHORT), line] for trial, line in zip(trials, drawn[1:], strict=True)]
    legend = ", ".join(f"{letter} {name}" for letter, name in zip(letters, names, strict=True))
    return f"{table((*numbers('#'), *headings('run'), *numbers('loss', drawn[0])), lines)}\n{_line('options', legend)}"


def _folded(cells: Sequence[str]) -> str:
    """The cells on as few lines as have room for them; where lines break depends on their widths alone."""
    lines = [""]
    for cell in cells:
        if lines[-1] and len(lines[-1]) + len(cell) >= OPTIONS:
            lines.append("")
        lines[-1] += f" {cell}" if lines[-1] else cell
    return "\n".join(lines)


def _first(trial: Mapping[str, Any], width: int) -> list[str]:
    loss = _loss(trial["valid_loss"]) if trial["status"] == "done" else trial["status"]
    return [f"{trial['trial']}{'*' if trial['selected'] else ' '}", trial["run"][:width], loss]


def _option(trial: Mapping[str, Any], name: str) -> str:
    return plain(trial["options"].get(name, NOTHING))
