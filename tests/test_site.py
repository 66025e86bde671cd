"""docs/ as a site: every page is in its navigation, and where mkdocs is installed, every link leads somewhere."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def test_every_page_is_in_the_navigation_once() -> None:
    nav = re.findall(r"^\s*- (?:[\w ]+: )?(\S+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    assert {f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md")} <= set(nav)
    assert len(nav) == len(set(nav))
    for page in nav:
        assert (ROOT / page).is_file(), page


def build(root: Path, site: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(site)]
    return subprocess.run(command, cwd=root, capture_output=True, text=True)


def test_links_are_strict(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs", reason="needs the extra 'docs'")
    pytest.importorskip("material", reason="needs the extra 'docs'")
    root = tmp_path / "clone"
    unread = shutil.ignore_patterns("runs", "studies", "__pycache__", "*.pyc")
    results = (f"results/{name}" for name in ("published", "under_way", "gpu", "paper"))
    for name in ("docs", "benchmarks", "hycon", *results):
        shutil.copytree(ROOT / name, root / name, ignore=unread)
    for name in (
        "mkdocs.yml",
        "README.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "CITATION.cff",
        "LICENSE",
        "results/claims_beyond.toml",
    ):
        shutil.copy(ROOT / name, root / name)
    done = build(root, tmp_path / "site")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "site" / "hycon" / "losses.py").is_file()  # linked from docs/, lies outside
    assert 'href="../../results/published/"' in (tmp_path / "site" / "docs" / "claims" / "index.html").read_text()
    (root / "docs" / "data.md").write_text("[a](nothing.md), [b](protocol.md#nowhere)\n")
    done = build(root, tmp_path / "again")
    assert done.returncode == 1
    assert "nothing.md" in done.stderr
    assert "#nowhere" in done.stderr
