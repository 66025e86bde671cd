"""The container file: what it copies is there, its versions are exact, and where a builder is at hand it builds."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
DOCKERFILE = ROOT / "Dockerfile"
BUILD = re.compile(r"^(docker (?:build|run) .+)$", re.MULTILINE)


def instructions() -> list[tuple[str, str]]:
    """(instruction, arguments) line by line, without comments, continued lines joined."""
    text = "\n".join(line for line in DOCKERFILE.read_text().splitlines() if not line.lstrip().startswith("#"))
    lines = [line.strip() for line in text.replace("\\\n", " ").splitlines() if line.strip()]
    return [(line.partition(" ")[0], " ".join(line.partition(" ")[2].split())) for line in lines]


def arguments(instruction: str) -> list[str]:
    return [rest for name, rest in instructions() if name == instruction]


def copied() -> list[str]:
    return [source for rest in arguments("COPY") for source in rest.split()[:-1]]


def test_it_is_made_of_known_instructions() -> None:
    known = {"FROM", "ARG", "ENV", "WORKDIR", "COPY", "RUN", "USER", "ENTRYPOINT", "CMD"}
    assert {name for name, _ in instructions()} <= known
    assert [name for name, _ in instructions()].count("FROM") == 1


def test_the_base_image_has_an_exact_tag_of_a_python_that_the_suite_takes() -> None:
    (base,) = arguments("FROM")
    found = re.fullmatch(r"python:(\d+)\.(\d+)\.\d+-slim-[a-z]+(@sha256:[0-9a-f]{64})?", base)
    assert found
    assert (int(found[1]), int(found[2])) >= (3, 11)


def test_every_source_exists_and_reaches_the_builder() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    allowed = {line[1:] for line in ignored if line.startswith("!")}
    assert "*" in ignored
    for source in copied():
        assert (ROOT / source).exists(), source
        assert source in allowed, source
    assert allowed == set(copied())


def test_the_package_is_copied_whole() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = {*wheel["packages"], *wheel["force-include"], project["project"]["readme"]}
    needed |= {*project["project"]["license-files"], "pyproject.toml", "constraints.txt"}
    assert needed <= set(copied())
    extras = {
        extra for run in arguments("RUN") for one in re.findall(r"\.\[([\w,]+)\]", run) for extra in one.split(",")
    }
    assert extras <= set(project["project"]["optional-dependencies"])


def test_versions_are_those_of_the_constraints() -> None:
    installs = [run for run in arguments("RUN") if "pip install" in run]
    assert installs
    assert all("-c constraints.txt" in run for run in installs)
    assert any("${VARIANT}" in run for run in installs)
    assert arguments("ARG") == ["VARIANT=cpu"]


def requirements() -> list[Requirement]:
    """What the image's `pip install` is asked for: torch, the package's own dependencies, and the extras it names."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = {
        extra for run in arguments("RUN") for one in re.findall(r"\.\[([\w,]+)\]", run) for extra in one.split(",")
    }
    asked = [*project["dependencies"], *(one for e in extras for one in project["optional-dependencies"][e])]
    named = [
        word
        for run in arguments("RUN")
        if "pip install" in run
        for word in run.split()
        if re.match("[a-z]+(==|$)", word)
    ]
    return [Requirement(one) for one in (*asked, *(word for word in named if word not in ("pip", "install")))]


def test_constraints_pin_whatever_the_image_installs() -> None:
    """Each requirement has one pin, which it allows; a version in the container file itself would be another one."""
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and line[0] != "#"]
    pins = {canonicalize_name(name): version for name, _, version in (line.partition("==") for line in lines)}
    assert len(pins) == len(lines)
    asked = requirements()
    assert {"torch", "matplotlib", "nvidia-ml-py"} <= {one.name for one in asked}
    for one in asked:
        pin = pins.get(canonicalize_name(one.name))
        assert pin, f"{one.name} has no pin in constraints.txt"
        assert one.specifier.contains(pin), f"{one} does not allow {pin}"


def test_the_constraints_are_of_the_base_image_s_python() -> None:
    (base,) = arguments("FROM")
    head = (ROOT / "constraints.txt").read_text().partition("\nabsl")[0]
    made_with = re.search(r"\(Python (\d+\.\d+), Linux\)", head)
    assert made_with
    assert base.startswith(f"python:{made_with[1]}.")


def test_bench_runs_as_a_user_without_rights() -> None:
    names = [name for name, _ in instructions()]
    (user,) = arguments("USER")
    assert user not in ("root", "0")
    assert names.index("USER") > max(i for i, name in enumerate(names) if name in ("RUN", "COPY"))
    assert arguments("ENTRYPOINT") == ['["bench"]']
    environment = " ".join(arguments("ENV"))
    for variable in ("BENCH_DATA=/bench/", "BENCH_RESULTS=/bench/", "HF_HOME=/bench/"):
        assert variable in environment


def test_the_readme_has_the_commands_of_the_files_head() -> None:
    section = (ROOT / "README.md").read_text().partition("\n## In a container\n")[2].partition("\n## ")[0]
    head = DOCKERFILE.read_text().partition("\nFROM ")[0].replace("#   ", "")
    commands = BUILD.findall(section)
    assert len(commands) == 4
    assert commands == sorted(BUILD.findall(head), key=commands.index)
    for command in commands:
        for build_argument in re.findall(r"--build-arg (\w+)=", command):
            assert any(fnmatch(arg, f"{build_argument}=*") for arg in arguments("ARG"))


def builder() -> str | None:
    """docker or podman that answers, or buildah."""
    for name in ("docker", "podman"):
        if shutil.which(name) and subprocess.run([name, "info"], capture_output=True, timeout=60).returncode == 0:
            return name
    return "buildah" if shutil.which("buildah") else None


@pytest.mark.container
@pytest.mark.timeout(3000)
@pytest.mark.skipif(not os.environ.get("BENCH_CONTAINER"), reason="set BENCH_CONTAINER to build the container file")
def test_it_builds_and_answers() -> None:
    found = builder()
    if found is None:
        pytest.skip("no docker, podman or buildah that answers")
    base = re.search(r"^FROM (\S+)", (ROOT / "Dockerfile").read_text(), re.M)
    if base and subprocess.run([found, "pull", base[1]], check=False).returncode:
        pytest.skip(f"{base[1]} cannot be fetched here")
    subprocess.run([found, "build", "-t", "hycon-bench-test", str(ROOT)], check=True)
    if found != "buildah":
        done = subprocess.run(
            [found, "run", "--rm", "hycon-bench-test", "claims", "--paper"], capture_output=True, text=True, check=True
        )
        assert "contradicted" in done.stdout
