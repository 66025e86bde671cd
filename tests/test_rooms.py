"""The rooms of the house (docs/architecture.md): which may import which, and what may stand where."""

from __future__ import annotations

import ast
from collections import defaultdict
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FLOORS = (  # a room or top file of studies/ imports from lower floors only
    ("store", "document", "statistics", "registry", "tables", "paper", "literature"),
    ("authors",),
    ("lookup", "engines"),
    ("search", "aggregate"),
    ("claims", "figures"),
    ("report", "trust"),
    ("cli",),
)
FLOOR = {room: number for number, floor in enumerate(FLOORS) for room in floor}
MOST_ARROWS = 70  # between rooms and top files
MOST_TOP_FILES = 8  # directly in studies/
LONGEST_MODEL = 300  # lines
MODEL_FILES = ["hycon/model.py", *sorted(f"baselines/{path.name}" for path in (ROOT / "baselines").glob("*.py"))]


def modules_of(package: str) -> dict[str, Path]:
    """Dotted name -> file."""
    paths = sorted((ROOT / package).rglob("*.py"))
    return {".".join(p.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): p for p in paths}


def imported(path: Path, known: dict[str, Path], everywhere: bool = True) -> set[str]:
    """The modules of `known` that a file imports; everywhere: also inside functions."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = set()
    for node in ast.walk(tree) if everywhere else tree.body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found & known.keys()


def arrows() -> dict[tuple[str, str], list[str]]:
    """(room, room that it imports) -> the files that do; the package's own __init__ is no room."""
    known, found = modules_of("studies"), defaultdict(list)
    for module, path in known.items():
        for target in imported(path, known):
            here, there = (name.split(".")[1:2] for name in (module, target))
            if here and there and here != there:
                found[here[0], there[0]].append(module)
    return found


def test_every_room_has_a_floor() -> None:
    known = {name.split(".")[1] for name in modules_of("studies") if "." in name}
    assert known == set(FLOOR)


def test_rooms_import_from_lower_floors_only() -> None:
    upward = {f"{a} -> {b}: {files}" for (a, b), files in arrows().items() if FLOOR[a] <= FLOOR[b]}
    assert not upward


def test_arrows_between_rooms_are_few() -> None:
    assert len(arrows()) <= MOST_ARROWS


@pytest.mark.parametrize("package", ["hycon", "baselines"])
def test_modules_import_in_no_circle(package: str) -> None:
    known = modules_of(package)
    TopologicalSorter({name: imported(path, known) - {name} for name, path in known.items()}).prepare()


def test_few_files_lie_directly_in_studies() -> None:
    assert len(list((ROOT / "studies").glob("*.py"))) <= MOST_TOP_FILES


def test_hand_written_backward_passes_are_kernels_beside_a_plain_form() -> None:
    files = [p for package in ("hycon", "baselines", "studies") for p in (ROOT / package).rglob("*.py")]
    written = [p for p in files if "autograd.Function" in p.read_text() or "def backward(" in p.read_text()]
    assert {p.parent.relative_to(ROOT).as_posix() for p in written} == {"hycon/kernels"}
    own = [p for p in written if "def backward(" in p.read_text() and p.name != "fused_cells.py"]  # lstm, gated_memory
    assert [p.name for p in own if "def plain_" not in p.read_text()] == []


@pytest.mark.parametrize("file", MODEL_FILES)
def test_a_model_file_can_be_read_in_one_go(file: str) -> None:
    assert len((ROOT / file).read_text().splitlines()) <= LONGEST_MODEL


def test_arrows_are_seen_inside_functions_and_of_packages(tmp_path: Path) -> None:
    file = tmp_path / "one.py"
    file.write_text("def f():\n    from studies import tables\n    import studies.store.record\n")
    known = modules_of("studies")
    assert imported(file, known) == {"studies", "studies.tables", "studies.store.record"}
    assert imported(file, known, everywhere=False) == set()
