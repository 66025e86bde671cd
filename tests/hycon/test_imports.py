"""Modules of hycon import one another in one direction: there is an order in which each comes after what it imports."""

from __future__ import annotations

import ast
import graphlib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in (ROOT / "hycon").rglob("*.py")
}


def imported(path: Path) -> set[str]:
    """Modules of hycon that `path` imports, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= (names & MODULES.keys()) or {node.module}
    return found & MODULES.keys()


def test_there_is_no_circle() -> None:
    order = list(graphlib.TopologicalSorter({name: imported(path) for name, path in MODULES.items()}).static_order())
    assert order.index("hycon.data.manifest") < order.index("hycon.data.corpus") < order.index("hycon.data.prepare")
