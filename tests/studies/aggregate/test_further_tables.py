"""The tables that the paper does not have, from planned runs to printed text. Nothing is trained: records are made up."""

# ruff: noqa: E501 (expected output is written as it is printed)

import dataclasses
import json
import math

import numpy as np
import pytest
from builders import manifest, setting

from hycon.errors import UserError
from hycon.metrics import all_protocols
from studies.aggregate.choice import choose
from studies.aggregate.render import render
from studies.aggregate.table import table_result
from studies.lookup import pick_rows, table_spec
from studies.registry import resolve, search_space
from studies.search.plan import following, repeat_specs, trial_specs
from studies.search.run import run_rows
from studies.statistics.cell import CellStat
from studies.statistics.spread import Spread, spread
from studies.store.record import RunRecord
from studies.store.run_store import RunStore
from studies.store.study import load_studies, remember_corpus, save_study
from studies.tables import TABLES, Row, with_studies

LABEL = np.array([1.0, -1.0, 2.0, -2.0], np.float32)


@pytest.fixture
def store(tmp_path):
    return RunStore(tmp_path / "results")


# ------------------------------------------------------------------------------------------------- shared cells


def test_cells_that_tables_share_are_the_same_runs():
    """HyCon and HyCon-v2 on MOSI stand in many tables and are fifty trials and five records each. Table 8's are not
    among them: they are measured."""
    whole, second = [], []
    for name in ("table1", "table4", "table5", "table6", "table7", "sensitivity", "modalities", "tuning"):
        for row in TABLES[name].rows:
            if (row.model, row.text, row.study) == ("hycon", "bert", 0) and dict(row.config) in ({}, {"beta": 0.2}):
                (second if row.config else whole).append((name, row))
    assert [name for name, _ in whole] == [
        *("table1", "table4", "table5", "table6", "table7", "sensitivity", "modalities", "tuning"),
    ]
    assert [name for name, _ in second] == ["table1", "table4", "table7", "sensitivity", "tuning"]
    for rows in (whole, second):
        ids = set()
        for _, row in rows:
            study, specs = trial_specs(row, setting(trials=50, seeds=5))
            repeats = repeat_specs(row, setting(seeds=5), dataclasses.replace(study, selected=7))
            ids.add((study.id, tuple(s.id for s in specs), tuple(s.id for s in repeats)))
            assert len({s.id for s in repeats}) == 5
        assert len(ids) == 1


def test_an_option_of_later_is_in_a_specification_only_where_it_is_not_its_default():
    """Otherwise every run from before the option would have another id."""
    for row in (Row("a", "hycon", "bert"), Row("b", "hycon", "bert", {"modalities": "text,audio,vision"})):
        _, [spec, *_] = trial_specs(row, setting())
        assert "modalities" not in spec.config
        assert spec.config["margin"] == 0.8
    _, [spec, *_] = trial_specs(Row("c", "hycon", "bert", {"modalities": "text"}), setting())
    assert spec.config["modalities"] == "text"


def test_the_id_of_a_known_run_has_not_changed():
    """The first trial of HyCon-BERT in suite 2: an option that is added `later` leaves it."""
    _, [spec, *_] = trial_specs(Row("HyCon-BERT", "hycon", "bert"), setting())
    assert spec.id == "6ba69ea23a71ba88"


# ------------------------------------------------------------------------------------------------- rows


def test_sensitivity_changes_one_option_at_a_time():
    changed = [set(row.config) - {"beta"} for row in TABLES["sensitivity"].rows]
    together = ({"iamcl", "iemcl", "scl"}, {"optimizer", "weight_decay"})
    assert all(len(options) <= 1 or options in together for options in changed)
    of_hycon = {"reduction", "gamma", "iamcl", "iemcl", "scl", "zero", "readout", "log", "h_inter", "batch_size"}
    of_hycon |= {"selection", "weighted_refinement", "lr", "head_lr"}
    assert set().union(*changed) == {*of_hycon, "combine", "loss", "optimizer", "weight_decay", "warmup"}
    assert {row.config["beta"] for row in TABLES["sensitivity"].rows if "beta" in row.config} == {0.1, 0.2, 0.3, 0.5}
    for row in TABLES["sensitivity"].rows:
        assert not set(row.config) & set(search_space(row.model, row.text, row.config))


def test_sensitivity_has_the_learning_rates_that_other_rows_over_bert_search():
    rows = {row.name: row for row in TABLES["sensitivity"].rows}
    fixed = resolve("hycon", "bert", {})[1]
    asked = {
        option: {row.config[option] for row in rows.values() if option in row.config} for option in ("lr", "head_lr")
    }
    assert asked["lr"] | {fixed.lr} == set(search_space("gfn", "bert", {})["lr"])
    assert fixed.head_lr is None
    assert asked["head_lr"] <= set(search_space("self_mm", "bert", {})["head_lr"])
    for name, rates in (
        ("5e-5", (5e-5, None)),
        ("1e-5; lineage 2023", (1e-5, None)),
        ("1e-3 beside BERT", (2e-5, 1e-3)),
    ):
        row = rows[f"HyCon (learning rate {name})"]
        study, _ = trial_specs(row.intact, setting())
        followed = following(row, setting(), dataclasses.replace(study, selected=0))
        for spec in repeat_specs(row, setting(), followed):
            assert (spec.training["lr"], spec.training["head_lr"]) == rates


def test_modalities_are_every_subset_and_without_text_the_rate_is_not_berts():
    rows = TABLES["modalities"].rows
    sets = [row.config.get("modalities", "text,audio,vision") for row in rows]
    assert len(set(sets)) == 7
    assert [row.name.lower().replace(" + ", ",") for row in rows] == sets
    assert [row.config.get("lr") for row in rows] == [None if "text" in kept else 1e-3 for kept in sets]


# ------------------------------------------------------------------------------------------------- repeated searches


def test_each_study_has_draws_and_seeds_of_its_own_and_the_first_has_those_of_other_tables():
    plain, specs = trial_specs(Row("HyCon-BERT", "hycon", "bert"), setting())
    studies = [trial_specs(row, setting()) for row in table_spec("tuning", 4).rows[:4]]
    assert studies[0][0] == plain
    assert [s.id for s in studies[0][1]] == [s.id for s in specs]
    assert [study.number for study, _ in studies] == [0, 1, 2, 3]
    every = [spec for study, specs in studies for spec in [*specs, *repeat_specs(_row(study), setting(), _won(study))]]
    assert len({spec.seed for spec in every}) == len({spec.id for spec in every}) == len(every) == 4 * (4 + 3)
    assert len({json.dumps(study.draws) for study, _ in studies}) == 4
    assert [s.id for _, specs in studies[:3] for s in specs] == [
        s.id for row in TABLES["tuning"].rows[:3] for s in trial_specs(row, setting())[1]
    ]


def _row(study):
    return Row("", study.model, study.text, study.row, study=study.number)


def _won(study):
    return dataclasses.replace(study, selected=0)


def test_a_row_is_filled_by_its_own_study(store):
    first, second = TABLES["tuning"].rows[:2]
    studies = [trial_specs(row, setting())[0] for row in (first, second)]
    for study in studies:
        save_study(store, dataclasses.replace(study, runs=["r"]))
    found = [choose(row, load_studies(store), "mosi").best for row in (first, second, TABLES["tuning"].rows[2])]
    assert [s and s.id for s in found] == [studies[0].id, studies[1].id, None]


@pytest.mark.parametrize(
    ("table", "studies", "said"),
    [("table1", 3, "tables that repeat it: tuning"), ("tuning", 1, "at least 2"), ("tuning", 0, "at least 2")],
)
def test_studies_that_no_table_has(table, studies, said):
    with pytest.raises(UserError, match=said):
        table_spec(table, studies)


def test_tables_with_another_number_of_studies():
    assert table_spec("tuning") is table_spec("tuning", 3) is TABLES["tuning"]
    assert table_spec("table1", 1).studies == 1
    five = with_studies(TABLES["tuning"], 5)
    assert [row.name for row in five.rows[4:6]] == ["HyCon-BERT (study 5)", "HyCon-v2-BERT (study 1)"]
    assert with_studies(five, 3) == TABLES["tuning"]
    assert pick_rows(five, ["hycon-bert (STUDY 5)"])[0].study == 4


# ------------------------------------------------------------------------------------------------- the spread


def stat(mean, sd, n):
    return CellStat(mean, sd, None, None, n)


def test_spread_by_hand():
    assert spread([]) is None
    assert spread([stat(1.0, 0.5, 5)]) is None
    found = spread([stat(1.0, 0.5, 5), stat(2.0, 0.5, 5), stat(3.0, 0.5, 5)])
    assert (found.between, found.within) == (1.0, 0.5)
    assert found.tuning == pytest.approx(math.sqrt(1 - 0.25 / 5))
    unequal = spread([stat(0.0, 1.0, 2), stat(2.0, 2.0, 4)])  # pooled (1 + 3 * 4) / 4; 1/n on average 3/8
    assert unequal.within == pytest.approx(math.sqrt(13 / 4))
    assert unequal.tuning == pytest.approx(math.sqrt(2 - 13 / 4 * 3 / 8))
    assert spread([stat(1.0, 3.0, 2), stat(1.1, 3.0, 2)]).tuning == 0.0  # seeds explain it all
    assert spread([stat(1.0, None, 1), stat(3.0, None, 1)]) == Spread(math.sqrt(2), None, None)


def test_spread_recovers_what_made_the_numbers():
    """2000 studies of 5 runs: a standard error of 2 % of either."""
    generator = np.random.default_rng(0)
    studies = generator.normal(0, 2.0, (2000, 1)) + generator.normal(0, 1.0, (2000, 5))
    found = spread([stat(x.mean(), x.std(ddof=1), 5) for x in studies])
    assert found.within == pytest.approx(1.0, abs=0.05)
    assert found.tuning == pytest.approx(2.0, abs=0.1)


# ------------------------------------------------------------------------------------------------- printed


def finished(table, rows, store, errors):
    """The rows with runs whose predictions are off by what `errors` gives for (study, is a repeat, index)."""
    settings = setting(trials=2, seeds=2)
    offs = {}
    for row in rows:
        study, specs = trial_specs(row, settings)
        for i, spec in enumerate(specs):
            offs[spec.id] = errors(row.study, False, i)
        for draw in range(2):
            for i, spec in enumerate(repeat_specs(row, settings, dataclasses.replace(study, selected=draw))):
                offs[spec.id] = errors(row.study, True, i)

    def execute(specs):
        for spec in specs:
            prediction = LABEL + np.float32(offs[spec.id])
            metrics = {split: all_protocols(prediction, LABEL) for split in ("valid", "test")}
            store.put(
                RunRecord(spec, "done", metrics=metrics, valid_loss=offs[spec.id]), {"test_prediction": prediction}
            )

    run_rows(rows, settings, store, execute)
    remember_corpus(store, settings.manifest)
    return table_result(dataclasses.replace(table, columns=table.columns[:1] + table.columns[-2:]), store, rows=rows)


TEXT = """\
Spread that tuning adds.

Model                     Winner’s valid. loss                MAE               Corr
----------------------  ----------------------  -----------------  -----------------
HyCon-BERT (study 1)                 0.250 (1)  0.200 ± 0.141 (2)  1.000 ± 0.000 (2)
HyCon-BERT (study 2)                 0.250 (1)  0.300 ± 0.141 (2)  1.000 ± 0.000 (2)
HyCon-BERT (study 3)                 0.250 (1)  0.400 ± 0.141 (2)  1.000 ± 0.000 (2)
HyCon-BERT: sd between                   0.000              0.100              0.000
HyCon-BERT: sd within                        –              0.141              0.000
HyCon-BERT: sd tuning                        –              0.000              0.000

HyCon-BERT: sd between: of the studies’ means
HyCon-BERT: sd within: of the seeds in a study, pooled
HyCon-BERT: sd tuning: between, less what seeds explain

Not in the paper. Every study is a search with draws and seeds of its own, and its winner’s runs;
the sd of so few studies is a rough number. Corpus: mosi, 1284/229/686 utterances. Search: 2 trials
(the paper: 50 trials). BERT rows: demo (tiny, random weights), not bert-base-uncased.
Cells: mean ± sd (n) of seeded runs on the test split, n = 2. Lower is better: Winner’s valid. loss,
MAE. --notes prints the whole caption.
"""


def test_a_table_of_repeated_searches_word_for_word(store):
    table = TABLES["tuning"]
    # Trials are off by 0.5 and 0.25 (the winner); seeds of study k by 0.1 (k + 1) and 0.1 (k + 3).
    result = finished(
        table, table.rows[:3], store, lambda k, repeat, i: 0.1 * (k + 1 + 2 * i) if repeat else 0.5 - 0.25 * i
    )
    assert render(result, "text") == TEXT
    mae = {row.row.name: row.cells["mae"].stat for row in result.rows}
    assert mae["HyCon-BERT (study 2)"].mean == pytest.approx(0.3)
    assert mae["HyCon-BERT (study 2)"].n == 2
    assert mae["HyCon-BERT: sd between"].mean == pytest.approx(0.1)  # means 0.2, 0.3, 0.4
    assert mae["HyCon-BERT: sd within"].mean == pytest.approx(math.sqrt(0.02))  # 0.1 and 0.3, and so on
    assert mae["HyCon-BERT: sd tuning"].mean == pytest.approx(0.0, abs=1e-3)  # 0.01 - 0.02 / 2, of float32


def test_one_finished_study_has_no_spread_and_csv_json_latex_html_have_no_papers_column(store):
    table = TABLES["tuning"]
    result = finished(table, table.rows[:1], store, lambda k, repeat, i: 0.5)
    assert [row.row.name for row in result.rows] == ["HyCon-BERT (study 1)"]
    assert "paper" not in render(result, "html").split("<thead>")[1].split("</table>")[0]
    assert "\\begin{tabular}{lrrr}" in render(result, "latex")
    [row] = json.loads(render(result, "json"))["rows"]
    assert row["metrics"]["winner_loss"]["mean"] == 0.5
    assert row["metrics"]["mae"]["paper"] is None
    assert "winner_loss,0.5," in render(result, "csv")


def test_captions_say_that_the_paper_has_no_such_table(store):
    remember_corpus(store, manifest())
    for name in ("sensitivity", "modalities", "tuning"):
        text = " ".join(render(table_result(TABLES[name], store), "text", notes=True).split())
        assert "Not in the paper." in text
        assert "No row is measured yet." in text
        assert "column paper" not in text
    assert "column paper" in render(table_result(TABLES["table6"], store), "text", notes=True)
