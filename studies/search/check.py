"""What rules out the runs of a table is found before anything is written or run."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hycon.data.manifest import corpus_folder
from hycon.errors import UserError
from studies.search.plan import Setting, built, configuration, follows, options_of, searched_rows, trial_specs
from studies.tables import Row, TableSpec

if TYPE_CHECKING:
    from hycon.data import Corpus
    from studies.engines.options import How


def check_table(rows: Sequence[Row], setting: Setting, how: How) -> None:
    """Raises UserError as `check_rows` does, and where executor or devices cannot do what is asked."""
    from studies.engines.machine import check_bf16
    from studies.engines.run import check

    engine = check(how, here=True)
    asked = {setting.options.get("precision"), *(row.config.get("precision") for row in rows)}
    if "bf16" in asked and setting.device == "cpu" and not engine.remote:
        check_bf16()
    check_rows(rows, setting, how.data_root)


def check_rows(rows: Sequence[Row], setting: Setting, data: str | os.PathLike | None) -> None:
    """Raises UserError where the corpus is damaged or cannot serve a row, where a row's configurations cannot be built,
    and where an option set by hand is the row's own or has no effect."""
    _check_own_options(rows, setting)
    _check_effects(rows, setting)
    _check_served(built(rows), setting, data)
    _check_buildable(built(rows), setting)


def _check_own_options(rows: Sequence[Row], setting: Setting) -> None:
    for row in rows:
        if own := _own_options(row, setting):
            raise UserError(
                f"--set {own[0]} is what makes the row {row.name!r}: leave it out, or name other rows by --rows."
            )


def _own_options(row: Row, setting: Setting) -> list[str]:
    """The options set by hand that are the row's own. What a variant fixes may be set to another value for the row that
    it follows: Text-BERT stays one of the text where HyCon is run without vision."""
    intact = follows(row, setting)
    left = {k for k, v in row.config.items() if intact and k not in intact.config and setting.options.get(k) != v}
    return sorted(({*row.config, *row.named} - left) & setting.options.keys())


def _check_effects(rows: Sequence[Row], setting: Setting) -> None:
    """Raises UserError for an option that neither the rows read nor those whose search they need."""
    from studies.registry import unread

    run = {row.key: row for row in (*rows, *searched_rows(rows, setting))}.values()
    idle = [unread(r.model, r.text, configuration({}, r.config, options_of(r, setting))) for r in built(list(run))]
    for option in set.intersection(*idle) & setting.options.keys() if idle else ():
        raise UserError(f"--set {option} has no effect on {', '.join(row.name for row in rows)}: leave it out.")


def _check_served(rows: Sequence[Row], setting: Setting, data: str | os.PathLike | None) -> None:
    """Nothing is checked of a corpus that a dry run made up."""
    from hycon.data import load
    from studies.registry import unserved_because

    name = setting.manifest.name
    if not (corpus_folder(name, data) / "manifest.json").exists():
        return
    corpus = load(name, data)
    unserved: dict[str, list[str]] = {}  # reason -> rows
    for row in rows:
        encoder = None if row.text in setting.absent else setting.encoders.get(row.text)
        if reason := unserved_because(row.model, row.text, corpus, encoder):
            unserved.setdefault(reason, []).append(row.name)
    if unserved:
        why = "; ".join(f"{reason} ({', '.join(names)})" for reason, names in unserved.items())
        names = {name for of_reason in unserved.values() for name in of_reason}
        served = ",".join(row.name for row in rows if row.name not in names)
        others = f"leave them out: --rows {shlex.quote(served)}" if served else "name others with --rows, or a --corpus"
        raise UserError(f"Corpus {name!r} {why}: {others}.")


def served_rows(table: TableSpec, corpus: Corpus) -> list[str]:
    """The rows of a table that a corpus serves, whatever text encoder stands behind them."""
    from studies.registry import unserved_because

    return [row.name for row in built(table.rows) if unserved_because(row.model, row.text, corpus) is None]


def _check_buildable(rows: Sequence[Row], setting: Setting) -> None:
    from studies.registry import check_buildable, resolve

    dims = {m: setting.manifest.dims[m] for m in ("audio", "vision")}
    for row in rows:
        configs = [resolve(row.model, row.text, overrides)[0] for overrides in possible(row, setting)]
        check_buildable(row.model, row.text, dims, len(setting.manifest.emotions or ()), configs)


def possible(row: Row, setting: Setting) -> list[dict[str, Any]]:
    """The overrides that runs of the row may have: one for each draw of the search on which they depend."""
    draws = [{}] if row.measured else trial_specs(follows(row, setting) or row, setting)[0].draws
    return [configuration(drawn, row.config, options_of(row, setting)) for drawn in draws]
