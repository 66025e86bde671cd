"""Where each model departs from its source, as its own file says: the "Deviates" part of the module's docstring.

Read with ast, so that nothing is imported; how the part is written: studies.authors.docstring.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass

from studies.authors.docstring import parse
from studies.document.blocks import Block, Bullets, Part, Section, Text
from studies.registry import MODELS, source_tree


@dataclass(frozen=True)
class Deviations:
    """Of one model. remark: what is said before or in place of the items.  consulted: of the reference code."""

    model: str
    title: str
    remark: str
    items: tuple[str, ...]
    consulted: str


def deviations(model: str) -> Deviations:
    """What the file of a model of the registry says. Raises ValueError where it says nothing: silence is no answer."""
    found = parse(ast.get_docstring(source_tree(model)) or "")
    if found is None and MODELS[model].file:
        found = "the file has no part 'Deviates:'", (), ""
    if found is None:
        raise ValueError(f"the docstring of {MODELS[model].module} has no part 'Deviates:'")
    return Deviations(model, MODELS[model].title, *found)


def section() -> Section:
    blocks: list[Block] = [
        Text(
            "As each model's own file states them, beside the reference code that was consulted. What the paper leaves "
            "open, and our reading of it, is in docs/protocol.md."
        )
    ]
    for model in MODELS:
        found = deviations(model)
        inside: list[Block] = [Text(found.remark[:1].upper() + found.remark[1:])] if found.remark else []
        inside += [Bullets(found.items)] if found.items else []
        inside += [Text(f"Reference implementations: {found.consulted}")] if found.consulted else []
        blocks.append(Part(f"deviations-{model}", found.title, tuple(inside), closed=True))
    return Section("deviations", "Deviations from the papers", tuple(blocks))
