"""The report as a page: nothing in it can run, it can be read aloud, and the same folder gives the same bytes."""

import base64
import hashlib
import itertools
import re
import shutil
import subprocess
from collections import Counter

import pytest
from report_folders import NASTY, Drawn, Page, fill, manifest

from studies.document.blocks import Picture, Section
from studies.report import claims as evidence
from studies.report.write import FORMATS, report
from studies.tables import TABLES


@pytest.fixture
def hostile(tmp_path, monkeypatch) -> str:
    """A report on a folder whose every text is an attack."""
    store = fill(tmp_path, held=manifest(notes=[NASTY], source={"file": NASTY}), failed=1, notes=[NASTY], device=NASTY)
    claim = type("Claim", (), {"id": 'x" onclick="y', "quote": NASTY, "place": NASTY, "own": False})
    part = type("Part", (), {"row_a": NASTY, "row_b": "", "table": NASTY, "metric": NASTY, "reason": NASTY})
    part.low = part.high = part.p = part.p_adjusted = part.difference = part.seeds_needed = None
    part.n_a = part.n_b = part.underpowered = part.paired = part.seeds_alone = 0
    part.verdict = NASTY
    result = type("Result", (), {"claim": claim, "verdict": NASTY, "reason": NASTY, "caution": NASTY, "parts": (part,)})
    result.decide, result.kept = (NASTY,), False
    monkeypatch.setattr(evidence, "evaluated", lambda scope: [result])
    drawn = Section("figures", "F", (Picture(Drawn(NASTY, NASTY, NASTY)),))
    monkeypatch.setattr(evidence, "figures", lambda scope: drawn)
    return report(store)


def test_nothing_from_data_becomes_markup(hostile):
    page = Page(hostile)
    assert NASTY not in hostile
    assert hostile.count("&lt;script&gt;alert(1)") >= 8
    assert len(page.all("script")) == 1
    assert "alert(1)" not in page.scripts[0]
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    sources = [a[key] for _, a in page.tags for key in ("src", "href", "action", "data", "srcset") if key in a]
    assert all(source.startswith(("#", "data:")) for source in sources)
    assert {tag for tag, _ in page.tags} & {"iframe", "object", "embed", "form", "svg", "base"} == set()


def test_the_page_allows_its_own_script_and_nothing_else(hostile):
    page = Page(hostile)
    (policy,) = [a["content"] for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy"]
    digest = base64.b64encode(hashlib.sha256("".join(page.scripts).encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'")


def test_the_page_can_be_read_aloud(hostile):
    page = Page(hostile)
    assert [id for id, n in Counter(page.ids).items() if n > 1] == []
    targets = {a["href"][1:] for a in page.all("a") if a["href"].startswith("#")}
    assert targets <= set(page.ids)
    assert {"main", "summary", "part-table1"} <= targets
    named = {a[key] for _, a in page.tags for key in ("aria-labelledby", "aria-describedby") if key in a}
    assert named <= set(page.ids)
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    tables = page.all("table")
    assert len(tables) == len(page.all("caption")) == len({a["id"] for a in tables}) >= 15
    assert {a["scope"] for a in page.all("th")} == {"col", "row"}
    assert all(a["alt"] for a in page.all("img"))
    assert len(page.all("img")) == 1
    assert page.all("html")[0]["lang"] == "en"
    assert [len(page.all(tag)) for tag in ("main", "nav", "header")] == [1] * 3
    assert all(f'id="{name}"' in hostile for name in TABLES if not name.startswith("robustness"))  # not measured here


def test_the_same_folder_gives_the_same_bytes_in_every_format(tmp_path):
    store = fill(tmp_path)
    for format in FORMATS:
        assert report(store, format=format) == report(store, format=format)


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="pdflatex is not installed")
def test_the_appendix_compiles(tmp_path):
    store = fill(tmp_path / "results", held=manifest(notes=[NASTY]), failed=1, device="a_b^c ~ 100 % #1 é α ≠")
    (tmp_path / "report.tex").write_text(report(store, format="latex"))
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "report.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace", timeout=120)
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "report.pdf").read_bytes().startswith(b"%PDF")
