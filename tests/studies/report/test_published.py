"""The pages of the published results: what they say is what the records say, whatever a folder holds."""

from __future__ import annotations

import dataclasses
import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from commands import bench
from report_folders import HYCON, fill, manifest

from hycon.data.conditions import CONDITIONS, DRAWS
from hycon.errors import UserError
from studies.claims.file import load_claims
from studies.claims.kept import with_predictions
from studies.claims.kinds import Contest, Side
from studies.claims.render import as_list
from studies.claims.verdict import CONTRADICTED, NO_VERDICT, SUPPORTED, UNDECIDED, ClaimResult, Part
from studies.cli import parser
from studies.cli.campaign import read as read_campaign
from studies.lookup import View, pick_rows
from studies.report import finding, machines, published
from studies.report.campaigns import campaign_files
from studies.report.claims import evaluated
from studies.report.experiments import about, experiments, undecided
from studies.report.marked import split
from studies.report.scope import read_scope
from studies.store.record import RunSpec
from studies.store.run_store import RunStore
from studies.store.study import load_studies, save_study
from studies.tables import TABLES, Row

ROOT = Path(__file__).parents[3]
PUBLISHED = ROOT / "results/published"
TEN = [0.80 + i / 1000 for i in range(10)]
WORSE = [0.70 + i / 1000 for i in range(10)]


def row(table: str, name: str) -> Row:
    return next(found for found in TABLES[table].rows if found.name == name)


def test_the_page_says_what_the_published_records_say(capsys) -> None:
    code = published.main([str(PUBLISHED), "--check"])
    assert code == 0, capsys.readouterr().out


def test_the_page_of_the_commands_says_what_the_published_records_say() -> None:
    inside = split((ROOT / "docs/evidence.md").read_text(encoding="utf-8"), "machines")[1]
    assert inside == machines.generated(), "run `python -m studies.report.machines docs/evidence.md`"


def test_the_commands_of_the_page_are_commands_and_their_files_are_there() -> None:
    page = (ROOT / "docs/evidence.md").read_text(encoding="utf-8")
    commands = re.findall(r"^bench (.*)$", page, re.MULTILINE)
    assert len(commands) > 8
    for command in commands:
        parser().parse_args(shlex.split(command))
        for name in re.findall(r"results/published/campaigns/\S+", command):
            assert (ROOT / name).is_file(), name


def publish(folder: Path, row: Row, held, **known) -> None:
    """As `fill`, without predictions; every metric of a run is better where its accuracy is."""
    fill(folder, row, held, **known)
    for file in folder.glob("runs/*/predictions.npz"):
        file.unlink()
    for file in folder.glob("runs/*/record.json"):
        record = json.loads(file.read_text())
        own = record["metrics"]["test"]["paper"]
        own |= {"acc7": own["acc2"], "mae": 2 - own["acc2"], "corr": own["acc2"]}
        file.write_text(json.dumps(record))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """HyCon against its losses and the text alone; HyCon alone; and a search that is under way."""
    small, other = (manifest(name, notes=["vision is made up"]) for name in ("mosi_small", "mosi_other"))
    publish(tmp_path / "mosi_small", row("table4", "HyCon"), small, seeds=TEN)
    publish(tmp_path / "mosi_small", row("table4", "HyCon (W/O Contrast Learning)"), small, seeds=WORSE)
    publish(tmp_path / "mosi_small", row("beyond", "Text-BERT"), small, seeds=TEN[:1])
    publish(tmp_path / "mosi_other", HYCON, other, seeds=TEN[:2])
    publish(tmp_path / "mosi_under_way", HYCON, small, seeds=())
    (tmp_path / "earlier" / "runs_of_old").mkdir(parents=True)
    (tmp_path / "earlier" / "README.md").write_text("# Runs of old\n\nMore.\n")
    return tmp_path


def test_the_page_has_data_runs_tables_and_claims_of_each_folder(root: Path) -> None:
    page = published.files(root)[root / "README.md"]
    assert "- [earlier](earlier/README.md): Runs of old" in page
    assert re.search(r"\| mosi\\_small +\| Table 4; beyond \| +27 \| +0\.[23] \|", page), page
    assert re.search(r"\| mosi\\_under\\_way \| – +\| +2 \|", page)
    _, first, second = page.split("\n## ")[1:]
    for said in (
        "in place of the paper's mosi: 1,284 train, 229 valid, 686 test utterances",
        "- Vision is made up.",
        "Text encoder of the BERT rows: bert-base-uncased, sha256 abab",
        "a search of 2 trials, not 50 trials",
        "Made by `bench run` with [mosi_small-table4.toml](campaigns/mosi_small-table4.toml), [mosi_small-",
        "| HyCon (W/O Contrast Learning) | 70.5 ± 0.3 (10) | 82.7 |",
        "| supported on what was run | “removing the whole contrastive learning method",
        "intervals are over seeds alone",
    ):
        assert said in re.sub(" +", " ", first).replace("**", ""), said
    assert "| HyCon-BERT | 2 trials | none yet |" in re.sub(" +", " ", second)
    assert "Verdicts are on what was run, which is not what the paper ran." in page
    counted = re.search(r"Of 47 claims \(the paper's\) (\d+) lack runs of a row\. Of the others: (.*?)\. Judged", first)
    assert counted
    assert int(counted[1]) + sum(int(n) for n in re.findall(r"\d+", counted[2])) == 47
    assert "All rows: device cpu; 0 failed runs; set by hand: nothing." in re.sub(r"\s+", " ", first)
    commands = re.findall(r"^bench (.*)$", page, re.MULTILINE)
    assert len(commands) >= 3
    for command in commands:
        parser().parse_args(shlex.split(command))


def test_rows_without_a_run_are_named_below_the_table(tmp_path: Path) -> None:
    store = fill(tmp_path / "mosi_x", HYCON, manifest("mosi_x"))
    (study,) = load_studies(store)
    for name in ("HyCon (α = 0.5)", "HyCon (α = 0.7)"):
        config = dict(row("table6", name).config)
        winner = {"winner_of": study.id, "trials": study.trials[:1], "draws": study.draws[:1], "selected": 0}
        save_study(store, dataclasses.replace(study, row=config, runs=["0" * 16], **winner))
    page = published.files(tmp_path)[tmp_path / "README.md"]
    assert "Without a finished run: HyCon (α = 0.5), HyCon (α = 0.7)." in page
    assert "| HyCon (α = 0.5)" not in page


def test_the_page_is_checked_against_the_file(root: Path, capsys) -> None:
    assert published.main([str(root), "--check"]) == 1
    assert not (root / "README.md").exists()
    assert published.main([str(root)]) == 0
    assert published.main([str(root), "--check"]) == 0
    (root / "README.md").write_text((root / "README.md").read_text().replace("70.5", "75.5"))
    assert published.main([str(root), "--check"]) == 1
    assert published.main([str(root / "nowhere")]) == 2
    assert "There is no folder" in capsys.readouterr().err


def test_a_folder_without_a_finished_run_is_named(tmp_path: Path) -> None:
    for name in ("runs", "studies"):
        (tmp_path / "begun" / name).mkdir(parents=True)
    assert "No run of a table is finished in begun." in published.files(tmp_path)[tmp_path / "README.md"]
    assert machines.generated(tmp_path) == "There are no published runs of today's protocol yet."


def test_a_folder_of_several_corpora_has_one_experiment_each(tmp_path: Path) -> None:
    for name in ("mosi_a", "mosi_b"):
        fill(tmp_path / "both", held=manifest(name))
    found = experiments(tmp_path)
    assert [e.title for e in found] == ["both, mosi_a", "both, mosi_b"]
    assert found[1].command("claims").startswith("bench claims --corpus mosi_b --results ")


def test_a_table_counts_that_shows_what_no_fuller_one_does(root: Path) -> None:
    assert list(experiments(root)[1].tables) == ["table4", "beyond"]  # and not Table 1, 5, 6, 7 for HyCon's row alone


def test_runs_that_were_tested_without_modalities_still_stand_beside_the_papers_numbers(tmp_path: Path) -> None:
    """Table robustness shows their studies too, and more of them in one table."""
    for name in ("table1", "beyond"):
        publish(tmp_path / "own", TABLES[name].rows[0], manifest("mosi_small"), seeds=TEN)
    for file in tmp_path.glob("own/runs/*/record.json"):
        record = json.loads(file.read_text())
        robust = {condition.name: {"paper": record["metrics"]["test"]["paper"]} for condition in CONDITIONS}
        file.write_text(json.dumps({**record, "robustness": robust, "robustness_draws": DRAWS}))
    assert list(experiments(tmp_path)[0].tables) == ["table1", "beyond", "robustness"]


def test_words_by_hand_have_no_numbers(root: Path) -> None:
    file = root / "mosi_small" / "about.md"
    file.write_text("Vision is of a 3D-CNN, text of all-MiniLM-L6-v2.\n")
    assert "## mosi_small\n\nVision is of a 3D-CNN" in published.files(root)[root / "README.md"]
    file.write_text("Acc2 is 70.4 here.\n")
    with pytest.raises(UserError, match=r"holds the number 70\.4"):
        about(root / "mosi_small")


# ------------------------------------------------------------------------------------------------- claims


@pytest.mark.parametrize(
    "test, value, p, why",
    [
        ("better", 0.0, 0.20, "no difference beyond chance"),
        ("great", 1.0, 0.20, "no difference beyond chance"),
        ("great", 1.0, 0.01, "the interval does not tell whether the size is as claimed"),
        ("slight", 1.0, 0.01, "the interval does not tell whether the size is as claimed"),
        ("gain", 0.0, 0.20, "the interval does not tell whether the size is as claimed"),  # "a similar performance"
        ("about", 85.0, None, "the interval does not tell whether the size is as claimed"),
    ],
)
def test_an_undecided_size_is_not_called_no_difference(test: str, value: float, p: float | None, why: str) -> None:
    side = Side("table4", "HyCon")
    contest = Contest("table4", side, side._replace(row="HyCon-v2") if p else None, "acc2", test, value)
    part = Part(contest, "mosi", UNDECIDED, difference=1.0, low=0.3, high=1.7, p=p, p_adjusted=p)
    assert undecided([ClaimResult(load_claims()[0], UNDECIDED, (part,), "")]) == {why: 1}


def test_what_was_judged_with_predictions_goes_before(root: Path) -> None:
    first = experiments(root)[1]
    held = as_list(first.claims["paper"])
    one = next(item for item in held if item["verdict"] == SUPPORTED)
    one["verdict"] = UNDECIDED
    for part in one["parts"]:
        part.update(verdict=UNDECIDED, p_adjusted=0.2)
    file = root / "mosi_small" / "claims.json"
    file.write_text(json.dumps(held))
    again = experiments(root)[1]
    changed = next(claim for claim in again.claims["paper"] if claim.claim.id == one["id"])
    assert changed.verdict == UNDECIDED
    assert again.judged == {"paper"}
    assert undecided([changed]) == {"no difference beyond chance": 1}
    assert "Judged by the predictions of the test split" in published.files(root)[root / "README.md"]
    one["parts"][0]["verdict"] = CONTRADICTED  # and its reason says nothing of it
    file.write_text(json.dumps(held))
    with pytest.raises(UserError, match="its reason is not that of its comparisons"):
        experiments(root)
    one["parts"][0].update(a=one["parts"][0]["a"] + 0.1, verdict=UNDECIDED)
    file.write_text(json.dumps(held))
    with pytest.raises(UserError, match="make it again from the folder with predictions"):
        experiments(root)


def test_a_kept_verdict_must_follow_from_its_numbers(root: Path) -> None:
    """What is published may have been edited: of the file, the ends of intervals and their p alone are on trust."""
    folder = root / "mosi_small"
    found = experiments(root)[1].claims["paper"]
    held = as_list(found)
    n = next(i for i, item in enumerate(held) if item["verdict"] == SUPPORTED)

    def refused(said: str, part: dict, **claim) -> None:
        forged = json.loads(json.dumps(held))
        forged[n].update(claim)
        for one in forged[n]["parts"]:
            one.update(part)
        (folder / "claims.json").write_text(json.dumps(forged))
        with pytest.raises(UserError, match=said):
            with_predictions(found, folder / "claims.json")

    refused("the verdict is 'undecided', by its comparisons 'supported'", {}, verdict=UNDECIDED)
    refused("the verdict is 'no verdict', by the records 'supported'", {}, verdict=NO_VERDICT)
    refused("'undecided', is not that of its numbers", {"verdict": UNDECIDED}, verdict=UNDECIDED)
    refused("'undecided', is not that of its numbers", {"verdict": UNDECIDED, "reason": "so"}, verdict=UNDECIDED)
    refused("'supported', is not that of its numbers", {"low": -99.0, "high": 99.0})
    refused("'supported', is not that of its numbers", {"p_interval": 0.9})
    refused("'supported', is not that of its numbers", {"p_interval": None, "p_adjusted": 0.0})
    refused("p of .* is 0.9, by the records", {"p": 0.9, "p_interval": 0.9, "p_adjusted": 0.9})
    refused("'supported', is not that of its numbers", {"p_adjusted": None})
    refused("difference of .* is 7.0, by the records", {"difference": 7.0})
    refused("underpowered of .* is True, by the records False", {"underpowered": True}, verdict=UNDECIDED)
    (folder / "claims.json").write_text(json.dumps(held))
    assert [claim.verdict for claim in with_predictions(found, folder / "claims.json")] == [c.verdict for c in found]


def test_kept_verdicts_are_not_read_through_a_link(root: Path, tmp_path: Path) -> None:
    found = experiments(root)[1].claims["paper"]
    (tmp_path / "elsewhere.json").write_text(json.dumps(as_list(found)))
    (root / "mosi_small" / "claims.json").symlink_to(tmp_path / "elsewhere.json")
    with pytest.raises(UserError, match="is a link, which is not followed"):
        with_predictions(found, root / "mosi_small" / "claims.json")


def test_the_commands_show_what_the_page_shows(root: Path, capsys, caplog) -> None:
    """A reader who repeats the page's own command must not find other verdicts than the page has."""
    folder = root / "mosi_small"
    command = ["claims", "--json", "--results", folder, "--data", root]
    held = as_list(experiments(root)[1].claims["paper"])
    one = next(item for item in held if item["verdict"] == SUPPORTED)
    one["verdict"] = UNDECIDED
    for part in one["parts"]:
        part.update(verdict=UNDECIDED, p_adjusted=0.2)
    (folder / "claims.json").write_text(json.dumps(held))

    def verdict(*more) -> tuple[str, bool]:
        code, out, err = bench(capsys, *command, *more)
        assert code == 0, err
        found = next(item for item in json.loads(out) if item["id"] == one["id"])
        return found["verdict"], found["kept"]

    assert verdict() == (UNDECIDED, True)
    assert verdict("--protocol", "paper", "--encoder", "bert=bert-base-uncased") == (SUPPORTED, False)  # picks runs
    assert verdict("--with", root / "mosi_under_way") == (SUPPORTED, False)  # other runs could join
    assert "not used" not in caplog.text
    said = bench(capsys, *command[:1], *command[2:])[1]
    assert "Judged by the predictions of the test split with its labels" in " ".join(said.split())
    store = RunStore(folder)
    result = next(c for c in evaluated(read_scope(store, View())) if c.claim.id == one["id"])
    assert (result.verdict, result.kept) == (UNDECIDED, True)
    one["parts"][0]["n_a"] += 1  # of other runs
    (folder / "claims.json").write_text(json.dumps(held))
    assert verdict() == (SUPPORTED, False)
    assert "not used" in caplog.text
    caplog.clear()
    publish(folder, HYCON, manifest("mosi_other", notes=["vision is made up"]), seeds=TEN[:2])  # a second corpus
    assert verdict("--corpus", "mosi_small") == (SUPPORTED, False)
    assert "not used" not in caplog.text


def test_verdicts_of_other_runs_are_refused(root: Path) -> None:
    found = as_list(experiments(root)[1].claims["paper"])
    publish(
        root / "mosi_small", row("table4", "HyCon (W/O Contrast Learning)"), manifest("mosi_small"), seeds=[*WORSE, 0.7]
    )
    (root / "mosi_small" / "claims.json").write_text(json.dumps(found))
    with pytest.raises(UserError, match=r"claims\.json is not what"):
        experiments(root)


# ------------------------------------------------------------------------------------------------- the finding


def test_the_finding_names_losses_text_and_the_other_folders(root: Path) -> None:
    said = finding.generated(root)
    start = "**What was run.** 27 runs, 1 to 10 seeds a row, on mosi\\_small in place of the paper's mosi. 1284/229/686"
    assert said.startswith(start)
    assert "**On the losses** (Tables 4, 6 and 7) the paper makes " in said
    assert "- supported on what was run: “removing the whole contrastive learning method" in said
    table = re.sub(" +", " ", said.partition("**Do audio and vision help?**")[2].partition("Beside it")[0])
    assert "| HyCon-BERT against Text-BERT | mosi\\_small | 1 pair | +0.0 | +0.000 | +0.000 | undecided |" in table
    assert "Of the paper's 47 comparative claims on sentiment these runs support 2, " in said
    left = re.search(r"these runs support 2, contradict (\d+) and leave (\d+) undecided; (\d+) are not run\.", said)
    assert left
    assert 2 + sum(map(int, left.groups())) == 47
    assert " That is said of what was run, not of the paper's setting" in said
    assert "Of the 5 differences of two rows on one metric that they ask about, 5 are beyond chance" in said
    assert "p asks whether there is any difference; the interval tells" in said.partition("**Do audio")[0]
    assert "A line of 1 pair is undecided whatever its numbers: so few give no p below 0.05." in said
    beside = said.partition("**Beside it.**\n\n- mosi\\_other: 4 runs")[2]
    told = re.search(r"they support (\d+), contradict (\d+) and leave (\d+) undecided; (\d+) are not run\.", beside)
    assert told
    assert sum(map(int, told.groups())) == 47
    assert "under" not in said
    assert "Table 4: Ablation studies, on mosi" in said


def test_without_folders_of_todays_protocol_the_finding_is_the_earlier_one(tmp_path: Path) -> None:
    earlier = tmp_path / "old"
    fill(earlier, held=manifest("mosi_old"))
    (tmp_path / "new").mkdir()
    assert "on mosi\\_old in place of the paper's mosi" in finding.generated(tmp_path / "new", earlier)


# ------------------------------------------------------------------------------------------------- campaigns


def test_campaign_files_make_the_folders_again(root: Path) -> None:
    assert published.main([str(root)]) == 0
    held = {path.stem: read_campaign(str(path)) for path in (root / "campaigns").glob("*.toml")}
    assert set(held) == {"mosi_small-table4", "mosi_small-beyond", "mosi_small-beyond-2", "mosi_other-table1"}
    given = held["mosi_small-table4"]
    assert given == {
        "table": "table4",
        "rows": "HyCon (W/O Contrast Learning),HyCon",
        "corpus": "mosi_small",
        "results": "results/mosi_small",
        "trials": 2,
        "seeds": 10,
    }
    assert [held[f"mosi_small-beyond{n}"]["rows"] for n in ("", "-2")] == ["HyCon-BERT", "Text-BERT"]
    for one in held.values():
        assert pick_rows(TABLES[one["table"]], one["rows"].split(","))


def test_a_campaign_file_has_what_was_set_by_hand_and_the_encoder(tmp_path: Path) -> None:
    store = fill(tmp_path / "mosi_x", HYCON, manifest("mosi_x"))
    (study,) = load_studies(store)
    options = {"modalities": "text,audio", "lr": 0.0001, "clip": None, "log": True, "epochs": 20, "patience": 5}
    encoder = {"name": "small_bert", "sha256": "ab" * 32}
    (store.root / "studies" / f"{study.id}.json").unlink()
    save_study(store, dataclasses.replace(study, options=options, encoder=encoder))
    (found,) = experiments(tmp_path)
    (text,) = campaign_files(found).values()
    assert 'encoder.bert = "encoders/small_bert"\ntrials = 2\nseeds = 2\nepochs = 20\npatience = 5\n' in text
    assert text.endswith('[set]\nclip = "None"\nlog = true\nlr = 0.0001\nmodalities = "text,audio"\n')
    (tmp_path / "made.toml").write_text(text)
    given = read_campaign(str(tmp_path / "made.toml"))["set"]
    assert given == ["clip=None", "log=true", "lr=0.0001", "modalities=text,audio"]


def test_campaign_files_of_no_record_are_taken_away(root: Path) -> None:
    (root / "campaigns").mkdir()
    (root / "campaigns" / "of_yore.toml").write_text("")
    assert published.main([str(root)]) == 0
    assert not (root / "campaigns" / "of_yore.toml").exists()
    (root / "campaigns" / "of_yore.toml").write_text("")
    assert published.main([str(root), "--check"]) == 1


def test_the_folder_of_text_and_audio_is_made_as_the_page_says(tmp_path: Path, monkeypatch) -> None:
    from hycon.data import load
    from hycon.data.importers import import_corpus

    n = 6
    np.savez(
        tmp_path / "held.npz",
        ids=np.array([f"v_{i}" for i in range(n)]),
        label=np.linspace(-1, 1, n).astype(np.float32),
        split_official=np.array([0, 0, 1, 1, 2, 2], np.int8),
        text=np.array(["a good film"] * n),
        audio=np.arange(n * 3, dtype=np.float32).reshape(n, 3),
    )
    page = (ROOT / "docs/evidence.md").read_text(encoding="utf-8")
    code = re.search(r"```python\n(.*?)```", page, re.DOTALL)
    assert code
    monkeypatch.setattr("sys.argv", ["make", str(tmp_path / "held.npz"), str(tmp_path / "made")])
    exec(code[1], {})
    import_corpus("made", tmp_path / "made", root=tmp_path / "data")
    found = load("made", tmp_path / "data")
    assert {split: len(of) for split, of in found.splits.items()} == {"train": 2, "valid": 2, "test": 2}
    assert found.manifest.dims == {"audio": 3, "vision": 1}
    assert found.splits["test"].audio.rows.tolist() == [[12, 13, 14], [15, 16, 17]]


def test_nothing_published_here_is_of_an_earlier_suite() -> None:
    suites = {record.spec.suite for e in experiments(PUBLISHED) for record in e.scope.records}
    assert suites <= {RunSpec.suite}
