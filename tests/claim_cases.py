"""Claims and runs with known truth, for the tests of studies.claims."""

from __future__ import annotations

from pathlib import Path

from studies.claims import evaluate, load_claims
from studies.lookup import View
from studies.tables import TABLES

ROWS = {row.name: row for row in TABLES["table4"].rows}
FULL, NONE, IAMCL, SCL = ("HyCon", *(f"HyCon (W/O {part})" for part in ("Contrast Learning", "L_IAMCL", "L_SCL")))


def claim(tmp_path: Path, text: str, **changes):
    """The one claim of a file with these lines beside what every claim has."""
    head = {"id": '"x"', "quote": '"as they say"', "place": '"sec. 4.5.3"', "tables": '["table4"]', **changes}
    lines = [f"{key} = {value}" for key, value in head.items() if value is not None]
    path = tmp_path / "claims.toml"
    path.write_text("[groups]\nboth = ['HyCon', 'HyCon-v2']\n[[claim]]\n" + "\n".join([*lines, text]))
    (found,) = load_claims(path)
    return found


def beats(a: str, *b: str, metrics: str = "['acc2']", more: str = "") -> str:
    return f"kind = 'beats'\nrows = ['{a}']\nthan = {list(b)}\nmetrics = {metrics}\n{more}"


BEATS = beats(FULL, IAMCL)


def verdict(store, tmp_path, text, **options):
    changes = options.pop("changes", {})
    (found,) = evaluate(store, View(**options), claims=[claim(tmp_path, text, **changes)])
    return found
