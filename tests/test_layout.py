"""What holds for the repository as a whole: imports point one way, results are data, documents say what is true."""

from __future__ import annotations

import argparse
import ast
import dataclasses
import importlib.util
import re
import shlex
import stat
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from studies.cli import parser
from studies.store.outputs import read_outputs
from studies.store.record import RunRecord, RunSpec
from studies.store.study import Study

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("hycon", "baselines", "studies")  # each may import itself and those to its left
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *ROOT.glob("results/under_way/*.md")])
LONGEST_FILE, LONGEST_FUNCTION = 400, 70


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


# ------------------------------------------------------------------------------------------------- code


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_imports_point_one_way(path: Path) -> None:
    package = path.relative_to(ROOT).parts[0]
    forbidden = set(PACKAGES[PACKAGES.index(package) + 1 :]) | {"tests", "benchmarks", "results"}
    found = {module.split(".")[0] for module in imported(ast.parse(path.read_text(encoding="utf-8")))}
    assert not found & forbidden, f"{name(path)} may not import {found & forbidden}"


def imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "write absolute imports"
            yield node.module or ""


def test_imported_sees_imports_inside_functions() -> None:
    tree = ast.parse("def f():\n    from studies.store.record import RunSpec\n    import baselines.tfn\n")
    assert list(imported(tree)) == ["studies.store.record", "baselines.tfn"]


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_modules_are_short_and_say_what_they_are(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    assert ast.get_docstring(tree), f"{name(path)} has no docstring"
    assert len(text.splitlines()) <= LONGEST_FILE, f"{name(path)} is longer than {LONGEST_FILE} lines: split it"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            assert length <= LONGEST_FUNCTION, f"{name(path)}: {node.name} has {length} lines"


def test_results_are_data_only() -> None:
    tracked = [path for part in ("paper", "published", "under_way") for path in (ROOT / "results" / part).rglob("*")]
    code = {".py", ".ipynb", ".sh", ".pkl", ".pickle", ".pt", ".so"}
    assert [name(path) for path in tracked if path.suffix in code] == []
    assert len(list((ROOT / "results" / "paper").glob("*.csv"))) == 8


def _ignored() -> set[Path]:
    """What git leaves out of results/, such as a reader's own runs; a copy without git has nothing of the kind."""
    if not (ROOT / ".git").exists():
        return set()
    listed = ["git", "ls-files", "-z", "--others", "--ignored", "--exclude-standard", "results"]
    found = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return {ROOT / line for line in found.split("\0") if line}


def test_no_label_lies_in_the_repository() -> None:
    """Corpora may not be distributed: of predictions, only what is without labels, ids and representations."""
    ignored = _ignored()
    arrays = [path for path in (ROOT / "results").glob("*/**/*.npz") if path not in ignored]
    assert {path.name for path in arrays} <= {"outputs.npz"}
    for path in arrays:
        read_outputs(path.read_bytes())


def test_the_installed_copy_of_the_papers_numbers_is_current() -> None:
    from hycon.host import shipped

    for path in (ROOT / "results" / "paper").iterdir():
        assert (shipped("paper") / path.name).read_bytes() == path.read_bytes(), f"install again: {path.name} changed"


# ------------------------------------------------------------------------------------------------- commands


def commands(parsed: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    yield parsed
    for action in parsed._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from commands(command)


@pytest.mark.parametrize("command", list(commands(parser())), ids=lambda c: c.prog)
def test_every_command_and_option_has_help(command: argparse.ArgumentParser, capsys: pytest.CaptureFixture) -> None:
    for action in command._actions:
        if not isinstance(action, argparse._SubParsersAction):
            assert action.help, f"`{command.prog}` says nothing of {action.option_strings or action.dest}"
        else:
            said = {choice.dest for choice in action._choices_actions if choice.help}
            assert said == set(action.choices), f"`{command.prog}`: a command without help"
    with pytest.raises(SystemExit) as ended:
        command.parse_args(["--help"])
    assert ended.value.code == 0
    assert command.prog in capsys.readouterr().out


def test_the_command_line_starts_without_torch() -> None:
    heavy = "{'torch', 'transformers', 'pandas', 'optuna', 'scipy'}"
    code = f"import sys; from studies.cli import main; main(['list']); print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


# ------------------------------------------------------------------------------------------------- documents


def blocks(text: str) -> list[str]:
    return re.findall(r"^```\w*\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)


def section(heading: str) -> str:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return text.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]


@pytest.mark.parametrize(
    ("heading", "parts"),
    [
        ("Quick start", ["-m venv", "pip install", "-c constraints.txt", "bench run table1 --profile demo"]),
        ("Tests", ["-m venv", "pip install", "-c constraints.txt", '".[test]"', "pytest"]),
    ],
)
def test_the_readme_has_one_line_to_start_and_one_to_test(heading: str, parts: list[str]) -> None:
    first = blocks(section(heading))[0].splitlines()
    assert len(first) == 1
    positions = [first[0].find(part) for part in parts]
    assert -1 not in positions
    assert positions == sorted(positions)


def documented_commands() -> list[tuple[str, str]]:
    """(document, command line) of every `bench` line in an indented or fenced block."""
    found = []
    for path in DOCUMENTS:
        for line in path.read_text(encoding="utf-8").splitlines():
            for part in line.split(" && "):
                match = re.match(r"(?:    )?(?:\.venv/bin/)?bench (.*)", part)
                if match:
                    found.append((name(path), match.group(1).split("  #")[0]))
    return found


@pytest.mark.parametrize(("document", "command"), documented_commands())
def test_documented_commands_exist(document: str, command: str) -> None:
    parser().parse_args(shlex.split(command))


def test_links_between_documents_lead_somewhere() -> None:
    for path in DOCUMENTS:
        for target in re.findall(r"\]\(([^)#\s]+)", path.read_text(encoding="utf-8")):
            if "://" not in target:
                assert (path.parent / target).exists(), f"{name(path)} links to {target}, which is not there"


def test_the_protocol_names_real_options_for_every_ambiguity() -> None:
    from hycon.model import Config
    from hycon.train import Training

    text = (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8")
    lines = re.findall(r"^\| (A\d+) \|.*\| ([^|]*) \|$", text, flags=re.MULTILINE)
    assert [number for number, _ in lines] == [f"A{i}" for i in range(1, 21)]
    options = {field.name for owner in (Config, Training) for field in dataclasses.fields(owner)}
    for number, option in lines:
        assert option == "no option" or set(re.findall(r"`(\w+)`", option)) <= options, f"{number}: {option}"


def test_every_field_of_a_record_and_of_a_study_is_explained() -> None:
    text = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    fields = [field.name for kind in (RunRecord, RunSpec, Study) for field in dataclasses.fields(kind)]
    assert [name for name in fields if f"`{name}`" not in text] == []


def test_the_model_in_the_readme_runs(tmp_path: Path) -> None:
    import torch

    from hycon.data import load
    from hycon.data.importers.synthetic import synthesize
    from hycon.data.prepare import prepare
    from hycon.train import fit

    file = tmp_path / "meanpool.py"
    file.write_text(next(block for block in blocks(section("Adding a model")) if "class Model" in block))
    spec = importlib.util.spec_from_file_location("meanpool", file)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    synthesize("tiny", tmp_path, sizes={"train": 24, "valid": 8, "test": 8})
    batches = prepare(load("tiny", tmp_path), "glove")
    torch.manual_seed(0)
    dims = {m: getattr(batches["train"], m).rows.shape[1] for m in ("text", "audio", "vision")}
    model = module.Model(module.Config(), dims)
    training = dataclasses.replace(module.TRAINING["vectors"], epochs=5)
    curve = fit(model, batches["train"], batches["valid"], training, seed=0).curve
    assert curve[-1]["train_loss"] < curve[0]["train_loss"]


# ------------------------------------------------------------------------------------------------- packaging


def normal(requirement: str) -> str:
    return re.match(r"[\w.-]+", requirement)[0].lower().replace("_", "-")  # type: ignore[index]


def test_constraints_pin_what_is_installed_by_name_and_version_alone() -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines)  # no URL, no local suffix, no range
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = {normal(r) for r in [*project["dependencies"], *extras["test"], *extras["plots"], *extras["browser"]]}
    assert wanted <= {normal(line) for line in lines}
    assert "torch==2.13.0" in lines
    assert normal(project["name"]) not in {normal(line) for line in lines}


def test_the_wheel_takes_what_it_needs() -> None:
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert build["packages"] == list(PACKAGES)
    assert build["force-include"] == {
        "results/paper": "studies/_results/paper",
        "results/claims_beyond.toml": "studies/_results/claims_beyond.toml",
        "results/literature": "studies/_results/literature",
    }
    for file in ("README.md", "LICENSE", "hycon/py.typed", "hycon/data/demo_vocabulary.txt"):
        assert (ROOT / file).is_file()


def test_ci_runs_the_lines_of_the_readme() -> None:
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & stat.S_IXUSR
    text = script.read_text()
    assert "readme_command Tests" in text
    assert "readme_command 'Quick start'" in text
    awk = re.search(r"readme_command\(\) \{\n(.*?)\n\}", text, re.DOTALL)
    assert awk
    for heading in ("Quick start", "Tests"):
        function = f"readme_command() {{\n{awk[1]}\n}}\nreadme_command '{heading}'"
        done = subprocess.run(["bash", "-c", function], cwd=ROOT, capture_output=True, text=True, check=True)
        assert done.stdout == blocks(section(heading))[0]
