"""The tables of docs/protocol.md that state what the code does: how each row is trained and searched, those of `beyond`
too, and what is not the same for all rows over a pretrained text encoder.

    python -m studies.report.protocol                     print them
    python -m studies.report.protocol docs/protocol.md    put them into the page, between its two marks
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from hycon.config import settings
from studies.paper import paper_table
from studies.registry import resolve, search_space
from studies.report.marked import main
from studies.tables import TABLES, Row

LIKE = "HyCon-BERT"  # what the other token rows are compared with
DROPOUTS = ("attn_dropout", "relu_dropout", "res_dropout", "embed_dropout")  # of HyCon's encoders of audio and vision
FRONT_END = "front-end"  # all of DROPOUTS, of a model that has none of them
EVERY = ""  # every model that has no reason of its own
REASONS: dict[tuple[str, str], str] = {  # (option, model) -> why it is not HyCon's
    ("lr", EVERY): "The paper states HyCon's (sec. 4.4(3)), and none for the baselines over BERT: searched around it.",
    ("batch_size", EVERY): "HyCon's are those of its lineage; these are two of them.",
    (FRONT_END, EVERY): "The method has networks of its own for audio and vision, and options of its own are searched.",
    ("clip", "mult"): "As in the reference code.",
    **{(option, "mult"): "Its own Transformers, with values around the reference code's." for option in DROPOUTS},
    ("lr", "mag"): "The reference code's; searched over MMSA's values.",
    ("batch_size", "mag"): "MMSA's values.",
    **{(option, "mag"): "As in the reference code." for option in ("optimizer", "weight_decay", "loss")},
    ("warmup", "mag"): "As the reference code's options; before December 2021 its rate rose to the end: see its file.",
}
VECTOR_REASONS: dict[tuple[str, str], str] = {  # of rows over word vectors: (option, model) -> whence its values
    **{
        ("clip", model): "The grid of Gkoumas et al.'s code, thinned, and none, as in the official codes."
        for model in ("tfn", "lmf", "mfn")
    },
    ("clip", "raven"): "As TFN, LMF and MFN; Gkoumas et al.'s code has no grid for RAVEN.",
    **{
        ("clip", model): "The value of Gkoumas et al.'s code, which does not search it."
        for model in ("ef_lstm", "lf_lstm")
    },
    ("clip", "mult"): "The grid of Gkoumas et al.'s code, thinned; the reference code's is among them.",
    ("clip", "qmf"): "The reference code's grid.",
    ("clip", "graph_mfn"): "None, as in MMSA, whose grid this row has.",
    ("clip", "hffn"): "None, as in the reference code, whose optimiser this row has.",
    ("clip", "tcm_lstm"): "Chosen here: no code is public.",
    ("clip", "hycon"): "None, as in the lineage.",
    **{("scale", model): "As every row, and what its official code does, to vision." for model in ("tfn", "mfn")},
}
COMMON = {("scale", "none (none, standard)"): "The same in every row."}  # (option, values) -> of other models


@dataclasses.dataclass(frozen=True)
class Conditions:
    """How a row is trained: option -> its value, in words, and in brackets what is searched.

    training: the fields of hycon.train.Training.  front_end: of DROPOUTS, None where the model has no such option.
    """

    row: Row
    training: dict[str, str]
    front_end: dict[str, str | None]

    @property
    def all(self) -> dict[str, str | None]:
        front_end = {FRONT_END: None} if not any(self.front_end.values()) else self.front_end
        return {**self.training, **front_end}


@dataclasses.dataclass(frozen=True)
class Difference:
    """An option that is another in some rows than in LIKE. reason: "" where REASONS has none."""

    option: str
    like: str
    here: str
    reason: str
    rows: tuple[str, ...]


def conditions(row: Row) -> Conditions:
    """Of a row of a table. Imports torch."""
    config, training = resolve(row.model, row.text, row.config)
    space = search_space(row.model, row.text, row.config)

    def value(option: str, default: Any) -> str:
        if option not in space:
            return words(default)
        numeric = all(isinstance(v, float | int) for v in space[option])
        return f"{words(default)} ({', '.join(map(words, sorted(space[option]) if numeric else space[option]))})"

    trained = {name: value(name, own) for name, own in settings(training).items()}
    encoders = {o: value(o, getattr(config, o)) if hasattr(config, o) else None for o in DROPOUTS}
    return Conditions(row, trained, encoders)


def words(value: Any) -> str:
    """0.00002 as "2e-5", None as "none"."""
    if value is None:
        return "none"
    if isinstance(value, float) and 0 < value < 0.01:
        mantissa, exponent = f"{value:e}".split("e")
        return f"{float(mantissa):g}e{int(exponent)}"
    return f"{value:g}" if isinstance(value, float) else str(value)


def shown_rows() -> list[Row]:
    """The paper's rows of Table 1, and of Table 3 those that are not among them."""
    rows = _papers("table1")
    known = {(row.model, row.text) for row in rows}
    others = [row for row in _papers("table3") if (row.model, row.text) not in known]
    return rows + [dataclasses.replace(row, name=f"{row.name} (Table 3)") for row in others]


def successors() -> list[Row]:
    """The rows of `beyond` whose model no table of the paper has."""
    papers = {row.model for row in (*_papers("table1"), *_papers("table3"))}
    return [row for row in TABLES["beyond"].rows if row.model not in papers]


def _papers(table: str) -> list[Row]:
    printed = {row for _, row, _ in paper_table(table)}
    return [row for row in TABLES[table].rows if row.name in printed]


def on_tokens(found: Iterable[Conditions]) -> list[Conditions]:
    from hycon.data.batch import form_of

    return [one for one in found if form_of(one.row.text) == "tokens"]


def differences(found: Sequence[Conditions]) -> list[Difference]:
    """Of token rows from LIKE, in its order of options; rows with the same difference and reason are one line."""
    rows = on_tokens(found)
    like = next(one for one in rows if one.row.name == LIKE)
    lines: dict[tuple[str, str, str, str], list[str]] = {}
    for option in (*like.training, FRONT_END, *DROPOUTS):
        expected = like.all.get(option)
        if option == FRONT_END:
            expected = "the four dropouts above"
        for one in rows:
            here = one.all.get(option, expected)  # of a row without encoders: FRONT_END only; of others: no FRONT_END
            if here != expected:
                reason = REASONS.get((option, one.row.model), REASONS.get((option, EVERY), ""))
                line = (option, expected or "no such option", here or "no such option", reason)
                lines.setdefault(line, []).append(one.row.name)
    return [Difference(*line, tuple(names)) for line, names in lines.items()]


def vector_values(found: Sequence[Conditions]) -> list[Difference]:
    """Clipping and scaling of the rows over word vectors; rows with the same values and reason are one line."""
    tokens = {one.row.name for one in on_tokens(found)}
    lines: dict[tuple[str, str, str], list[str]] = {}
    for option in dict.fromkeys(option for option, _ in VECTOR_REASONS):
        for one in found:
            if one.row.name not in tokens:
                here = one.training[option]
                reason = VECTOR_REASONS.get((option, one.row.model), COMMON.get((option, here), ""))
                lines.setdefault((option, here, reason), []).append(one.row.name)
    return [Difference(option, "", here, reason, tuple(names)) for (option, here, reason), names in lines.items()]


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _grouped(lines: Iterable[tuple[str, tuple[str, ...]]]) -> list[list[str]]:
    """Rows of one content are one line, under all their names."""
    names: dict[tuple[str, ...], list[str]] = {}
    for name, content in lines:
        names.setdefault(content, []).append(name)
    return [[", ".join(own), *content] for content, own in names.items()]


def _training(found: Sequence[Conditions], which: str = "A") -> str:
    """What every row has in common in a sentence, the rest in a table. which: how that begins."""
    options = list(found[0].training)
    same = [option for option in options if len({one.training[option] for one in found}) == 1]
    varied = [option for option in options if option not in same]
    common = ", ".join(f"`{option}` {found[0].training[option]}" for option in same)
    lines = _grouped((one.row.name, tuple(one.training[option] for option in varied)) for one in found)
    return (
        f"{which} value, and in brackets the values that are searched; a value without brackets is fixed. The same in "
        f"every row: {common}.\n\n" + _table(["rows", *(f"`{option}`" for option in varied)], lines)
    )


def _front_end(found: Sequence[Conditions]) -> str:
    lines = _grouped((one.row.name, tuple(one.front_end[o] or "-" for o in DROPOUTS)) for one in on_tokens(found))
    return (
        "Options of the encoders of audio and vision in the rows over BERT and XLNet; - where a model has no such "
        "option.\n\n" + _table(["rows", *(f"`{option}`" for option in DROPOUTS)], lines)
    )


def _differences(found: Sequence[Conditions]) -> str:
    lines = [[d.option, d.like, d.here, ", ".join(d.rows), d.reason] for d in differences(found)]
    return f"What differs from {LIKE} in these rows, and why.\n\n" + _table(
        ["option", LIKE, "here", "rows", "why"], [[f"`{o}`", *rest] for o, *rest in lines]
    )


def _vectors(found: Sequence[Conditions]) -> str:
    lines = [[f"`{d.option}`", d.here, ", ".join(d.rows), d.reason] for d in vector_values(found)]
    return "Clipping and scaling in the rows over word vectors, and why.\n\n" + _table(
        ["option", "values", "rows", "why"], lines
    )


def generated() -> str:
    """The tables, in Markdown, without the marks around them. Imports torch."""
    found = [conditions(row) for row in shown_rows()]
    later = [conditions(row) for row in successors()]
    paper = [_training(found), _front_end(found), _differences(found), _vectors(found)]
    return "\n\n".join(
        [*paper, _training(later, "The successors in the table `beyond`, as their sources train them: a")]
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], "protocol", generated))
