"""Every command that is printed can be typed: the parser of `bench` takes it. Those in pages: tests/test_layout.py."""

import ast
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from hycon.errors import UserError, install
from studies.cli import main, parser

ROOT = Path(__file__).resolve().parent.parent
SOURCES = [path for package in ("hycon", "baselines", "studies") for path in sorted((ROOT / package).rglob("*.py"))]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
FAMILIES = "run|ablate|table|status|figure|claims|report|data|list|worker|verify|diff|doctor|export|import-results|show"
FILLED = {"self.prog": "bench run", "program()": "bench", "folder": "FOLDER", "name": "mosi"}  # expression -> its value


def strings(path: Path) -> Iterator[tuple[int, str]]:
    """(line, text) of what a file may print: its strings but for docstrings, with `{...}` filled."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    inside = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in ast.walk(node)}
    docs = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield node.lineno, "".join(map(_filled, node.values))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs | inside:
            yield node.lineno, node.value


def _filled(part: ast.expr) -> str:
    if isinstance(part, ast.Constant):
        return str(part.value)
    assert isinstance(part, ast.FormattedValue)
    return FILLED.get(ast.unparse(part.value), "x")


def printed() -> list[tuple[str, str]]:
    """(place, command) of every command in the source: in backticks, or a string of its own."""
    return [
        (f"{path.relative_to(ROOT)}:{line}", command)
        for path in SOURCES
        for line, text in strings(path)
        for command in (text.split("; ") if text.startswith("bench ") else re.findall(r"`(bench [^`']+)[`']", text))
    ]


def check(command: str) -> None:
    """Raises UserError where `bench` would not understand it. A command's bare name is taken for a mention of it."""
    words = shlex.split(command)[1:]
    try:
        parser().parse_args(words)
    except SystemExit as leaving:  # --help, --version
        assert not leaving.code
    except UserError:
        if any(word.startswith("-") for word in words):
            raise
        with pytest.raises(SystemExit) as leaving:
            parser().parse_args([*words, "--help"])
        assert not leaving.value.code


@pytest.mark.parametrize(("place", "command"), printed(), ids=str)
def test_a_printed_command_can_be_typed(place, command):
    check(command)


def test_the_test_finds_commands_and_refuses_wrong_ones():
    assert len(printed()) > 20
    check("bench doctor --repair")
    check("bench run")
    for wrong in ("bench runn", "bench data imprt", "bench table table1 --corpsu mosi", "bench claims --rows x"):
        with pytest.raises(UserError):
            check(wrong)


def test_a_command_in_a_sentence_stands_in_backticks():
    """So that the tests above find it."""
    bare = [
        f"{path.relative_to(ROOT)}:{line}: {text[:80]}"
        for path in SOURCES
        for line, text in strings(path)
        if re.search(rf"(?<!`)\b(bench ({FAMILIES})\b|pip install)", text)
        and not text.startswith(("Reproduce HyCon", "bench ", "## A campaign"))
    ]
    assert bare == []


def test_the_examples_of_the_help_can_be_typed():
    from studies.cli import DESCRIPTION

    lines = [re.split(r"  +", line.strip())[0] for line in DESCRIPTION.splitlines() if line.startswith("  bench")]
    for command in [part.strip() for line in lines for part in line.split(";")]:
        check(command)


def test_what_is_to_be_installed_can_be():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = [name for path in SOURCES for name in re.findall(r"\binstall\(\W(\w+)\W\)", path.read_text())]
    assert set(named) == {"ray", "slurm", "postgres", "plots", "tensorboard", "parquet"}
    assert set(named) <= set(extras)
    assert install("plots") == '`pip install -e ".[plots]" -c constraints.txt` in the clone'
    assert (ROOT / "constraints.txt").is_file()
    texts = [*SOURCES, *PAGES]
    assert [p.name for p in texts if re.search(r"pip install[^\n]*hycon-bench", p.read_text(encoding="utf-8"))] == []


def test_nothing_is_installed_that_a_page_names_wrongly():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for page in PAGES:
        for line in re.findall(r"pip install .*", page.read_text(encoding="utf-8")):
            assert {name for names in re.findall(r"\.\[([\w,]+)\]", line) for name in names.split(",")} <= set(extras)


def test_main_is_what_the_console_script_calls():
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts == {"bench": "studies.cli:main"}
    assert main.__module__ == "studies.cli"
