"""`bench claims`: what it prints, in every format, and its mistakes."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys

import pytest
from claim_cases import BEATS, IAMCL, SCL, claim, verdict

from hycon.errors import UserError
from studies.claims import against_paper, evaluate, load_claims, pick
from studies.claims.render import FORMATS, effect, render_claims
from studies.claims.verdict import decisive
from studies.cli import main
from studies.lookup import View

PAPER = {result.claim.id: result for result in against_paper()}


def test_effects_in_words(store, tmp_path):
    found = verdict(store, tmp_path, BEATS)
    part = dataclasses.replace(found.parts[0], low=30.0, high=40.0, p_adjusted=0.0123)
    said = f"HyCon against {IAMCL}, Acc2: +35.0 [30.0, 40.0], p = 0.008, adjusted 0.012, n = 8 pairs"
    assert effect(part) == said
    assert effect(dataclasses.replace(part, paired=False)) == said.replace("8 pairs", "8 + 8")
    sizes = {
        "great": "read as: a gain of at least",
        "slight": "read as: a gain of at most",
        "gain": "claimed: a gain of",
    }
    for test, claimed in sizes.items():
        of_a_size = dataclasses.replace(part, contest=dataclasses.replace(part.contest, test=test, value=1.0))
        assert f"[30.0, 40.0] ({claimed} 1.0), p = " in effect(of_a_size)
    assert ", p < 0.001, adjusted < 0.001, n = " in effect(dataclasses.replace(part, p=4e-5, p_adjusted=4e-4))
    assert effect(None) == ""
    assert effect(PAPER["ablation-any-loss"].decisive) == f"HyCon against {SCL}, Acc7: -0.4 (46.6, 47.0)"
    level = verdict(store, tmp_path, "kind = 'level'\nrows = ['HyCon']\nmetrics = ['acc2']\nabout = 85\nwithin = 1")
    assert effect(level.parts[0]).startswith("HyCon against 85.0, Acc2: +9.2 [")


def test_the_deciding_part_is_the_weakest_evidence_or_the_clearest_against():
    parts = [part for part in PAPER["mosi-v2"].parts]
    weakest = decisive(parts, "consistent")
    assert (weakest.row_b, weakest.metric) == ("MAG-XLNet", "corr")  # 0.805 and 0.804
    assert decisive(PAPER["fusion-ranking"].parts, "contradicted").metric == "corr"  # 0.790 and 0.801: 11 last digits
    assert decisive([], "supported") is None


@pytest.mark.parametrize("format", ["text", "md", "html", "latex"])
def test_without_predictions_it_is_said_that_the_intervals_are_over_seeds_alone(store, format):
    asked = pick(load_claims(), ["ablation-iamcl-iemcl"])
    said = "intervals are over seeds alone"
    assert said not in " ".join(render_claims(evaluate(store, claims=asked), format).split())
    for file in store.root.glob("runs/*/predictions.npz"):
        file.unlink()
    found = evaluate(store, claims=asked)
    assert said in " ".join(render_claims(found, format).split())
    assert said in " ".join(render_claims(found, "text", detailed=True).split())


@pytest.mark.parametrize("format", FORMATS)
def test_every_format_says_the_same_and_cautions_are_in_all(store, tmp_path, format):
    asked = pick(load_claims(), ["ablation-iamcl-iemcl", "margin-best"])
    results = evaluate(store, View(protocol="mmsa"), claims=asked)
    text = render_claims(results, format)
    for said in ("not run", "L_IEMCL", "margin-best" if format in ("text", "json", "html") else "4.5.5"):
        assert said in text.replace("\\_", "_").replace("\\", "")
    assert "protocol mmsa" in text
    assert text.endswith("\n")
    assert not text.endswith("\n\n")


def test_html_and_latex_are_escaped(tmp_path):
    odd = claim(tmp_path, BEATS, quote="'a < b & 5_% ‘so’'")
    results = against_paper([odd])
    assert "a &lt; b &amp; 5_%" in render_claims(results, "html")
    latex = render_claims(results, "latex")
    assert "\\& 5\\_\\% `so'" in latex
    assert "\\textless{}" in latex
    assert latex.isascii()
    with pytest.raises(UserError, match="nearest: html"):
        render_claims(results, "htlm")


# ---------------------------------------------------------------------------------------------------- the command


def bench(capsys, *arguments) -> tuple[int, str, str]:
    code = main(list(map(str, arguments)))
    out, err = capsys.readouterr()
    return code, out, err


def test_the_command_judges_runs(capsys, store, tmp_path):
    code, out, err = bench(capsys, "claims", "--results", store.root, "--id", "ablation-iamcl-iemcl", "--json")
    assert (code, err) == (0, "")
    (found,) = json.loads(out)
    assert {"id", "quote", "place", "verdict", "caution", "parts"} <= set(found)
    assert found["verdict"] == "not run"
    assert len(found["parts"]) == 10
    part = next(p for p in found["parts"] if p["row_b"] == IAMCL and p["metric"] == "acc2")
    assert part["verdict"] == "supported"
    assert part["n_a"] == 8
    assert part["low"] > 0
    code, out, _ = bench(capsys, "claims", "--results", store.root)
    lines = out.splitlines()
    assert code == 0
    assert lines[0].startswith(f"{len(load_claims())} claims: ")
    flat = " ".join(out.split())
    unrun = (
        flat[flat.index("Not run: ") : flat.index("--id says which rows are missing")]
        .replace(".", "")
        .replace(",", "")
        .split()
    )
    lined = [line for line in lines if line.startswith(("supported", "contradicted", "undecided", "not run"))]
    ids = {claim.id for claim in load_claims()}
    assert ids & set(unrun) | {claim for claim in ids for line in lined if claim in line.split()} == ids
    assert len(lined) + len(ids & set(unrun)) == len(ids)
    assert "ablation-iamcl-iemcl" not in unrun  # of some of its comparisons there are runs
    code, out, _ = bench(capsys, "claims", "--results", store.root, "--id", "ablation-iamcl-iemcl")
    assert len([line for line in out.splitlines() if line.startswith("  supported")]) == 5
    file = tmp_path / "claims.tex"
    code, out, _ = bench(capsys, "claims", "--paper", "--format", "latex", "--output", file)
    assert (code, out) == (0, "")
    assert "longtable" in file.read_text()


def test_the_command_judges_the_paper_and_lists(capsys):
    code, out, _ = bench(capsys, "claims", "--paper", "--json")
    assert code == 0
    assert {c["id"]: c["verdict"] for c in json.loads(out)}["counts"] == "contradicted"
    code, out, _ = bench(capsys, "list", "claims", "--json")
    listed = json.loads(out)
    assert code == 0
    assert [c["id"] for c in listed] == [c.id for c in load_claims()]
    assert listed[0]["comparisons"] == 720
    assert listed[0]["corpus"] == "mosi and mosei"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--id", "mosi-v3"], "mosi-v2"),
        (["--format", "txt"], "text"),
        (["--json", "--format", "md"], "give one of them"),
        (["--paper", "--corpus", "mosi"], "--corpus picks runs"),
        (["--paper", "--protocol", "mmsa"], "--protocol picks runs"),
        (["--corpus", "mosy"], "mosy"),
        (["--profile", "dmo"], "demo"),
        (["--encoder", "bert"], "bert=NAME_OR_FOLDER"),
        (["--protocol", "mmssa"], "mmsa"),
    ],
)
def test_mistakes_end_in_one_sentence(capsys, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results").mkdir()
    code, out, err = bench(capsys, "claims", *arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1
    assert list((tmp_path / "results").iterdir()) == []


def test_claims_load_nothing_heavy(store):
    code = (
        "import sys; from studies.cli import main\n"
        "heavy = {'torch', 'pandas', 'optuna', 'transformers', 'scipy.stats', 'sklearn'}\n"
        f"for line in (['list', 'claims'], ['claims', '--paper'], ['claims', '--results', {str(store.root)!r}]):\n"
        "    assert main(line) == 0\n"
        "    assert not heavy & set(sys.modules), (line, heavy & set(sys.modules))\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
