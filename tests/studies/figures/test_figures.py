"""Figures: the numbers beside them against oracles, bytes that repeat, what captions must say, and what is refused."""

import json
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET

import numpy as np
import pytest

pytest.importorskip("matplotlib", reason="figures need the extra 'plots'")
pytest.importorskip("sklearn", reason="figures need the extra 'plots'")

from builders import fill, fill_table, manifest

from hycon.data.conditions import CONDITIONS, DRAWS
from hycon.errors import UserError
from studies.aggregate.render import render
from studies.aggregate.robustness import area
from studies.aggregate.table import table_result
from studies.cli import main
from studies.document.words import visible
from studies.figures import figure
from studies.figures.separation import separation
from studies.lookup import View
from studies.store.run_store import RunStore
from studies.store.study import remember_corpus
from studies.tables import TABLES, for_emotions

TABLE4 = TABLES["table4"]
WITHOUT, HYCON = TABLE4.rows[0], TABLE4.rows[6]
SHOWN = {"fig4": "table4", "curves": "table4", "dots": "table4"}


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> RunStore:
    """Table 4 on MOSI with two rows run, three seeds each. Not to be written to."""
    store = RunStore(tmp_path_factory.mktemp("results"))
    fill_table(store, TABLE4, [WITHOUT, HYCON])
    return store


# ------------------------------------------------------------------------------------------------- what is drawn


def test_fig4_has_every_run_and_shows_the_one_of_median_silhouette(store):
    drawn = figure("fig4", store)
    result = table_result(TABLE4, store, rows=[WITHOUT, HYCON])
    assert [(n["row"], n["run"]) for n in drawn.numbers] == [(r.row.name, x.id) for r in result.rows for x in r.records]
    for number in drawn.numbers:
        arrays = store.predictions(number["run"])
        classes = (arrays["test_label"] >= 0).astype(int)
        assert number["silhouette"] == separation(arrays["test_multimodal"].astype(float), classes).silhouette
    for name in (WITHOUT.name, HYCON.name):
        of_row = [n for n in drawn.numbers if n["row"] == name]
        ranked = sorted(n["silhouette"] for n in of_row)
        assert [n["silhouette"] for n in of_row if n["shown"]] == [ranked[1]]
        mean, sd = np.mean(ranked), np.std(ranked, ddof=1)
        assert f"{name}, n = 3: silhouette {mean:.3f} ± {sd:.3f}" in drawn.caption
    for said in ("a label of 0 is positive", "Perplexity 9.67", "not of the picture", "5 nearest", "bert-base-uncased"):
        assert said in drawn.caption


def test_fig4_of_all_runs_of_one_and_of_other_rows(store):
    assert all(n["shown"] for n in figure("fig4", store, runs="all").numbers)
    third = [n["index"] for n in figure("fig4", store, runs="3").numbers if n["shown"]]
    assert third == [3, 3]
    only = figure("fig4", store, rows=["hycon"])
    assert {n["row"] for n in only.numbers} == {"HyCon"}
    for wrong in ("4", "0", "last"):
        with pytest.raises(UserError, match=r"--seed-index is .*runs 1 to 3"):
            figure("fig4", store, runs=wrong)


def test_fig4_leaves_out_labels_of_0_where_the_runs_did(tmp_path):
    store = RunStore(tmp_path)
    fill_table(store, TABLE4, [WITHOUT, HYCON], seeds=1, zero="exclude")
    drawn = figure("fig4", store)
    label = store.predictions(drawn.numbers[0]["run"])["test_label"]
    assert (label == 0).any()
    assert drawn.numbers[0]["points"] == (label != 0).sum()
    assert "labels of 0: exclude" in drawn.caption
    assert b">label 0<" in drawn.content


def test_curves_have_the_numbers_of_the_records(store):
    drawn = figure("curves", store, table="table4")
    assert len(drawn.numbers) == 6
    for number in drawn.numbers:
        record = store.get(number["run"])
        assert record is not None
        assert (number["best_epoch"], number["epochs"]) == (record.best_epoch, len(record.curve))
        assert number["best_valid_loss"] == min(point["valid_loss"] for point in record.curve)
    assert f"left out: {TABLE4.rows[1].name}" in drawn.caption
    assert "n = 3" not in drawn.caption


def test_dots_have_the_numbers_of_the_table_and_mark_what_is_quoted(store):
    drawn = figure("dots", store, table="table4")
    result = table_result(TABLE4, store)
    by_cell = {(n["row"], n["metric"]): n for n in drawn.numbers}
    assert len(by_cell) == 10 * 5  # the constant prediction is not known here
    for row in result.rows[:-1]:
        for metric, entry in row.cells.items():
            number = by_cell[row.row.name, metric]
            stat = entry.stat
            assert entry.paper
            assert number["paper"] == entry.paper.value
            assert number["verdict"] == entry.verdict
            assert (number["mean"], number["low"], number["n"]) == (
                (stat.mean, stat.low, 3) if stat else (None, None, 0)
            )
    assert "n = 3" in drawn.caption
    assert f"Not measured here, so without a dot: {TABLE4.rows[1].name}" in drawn.caption
    assert b"quoted by the paper" not in drawn.content
    halved = {
        n["metric"]: n["mean"] for n in figure("dots", store, View(protocol="all"), table="table4").numbers if n["n"]
    }
    assert halved["acc2"] == pytest.approx(by_cell[HYCON.name, "acc2"]["mean"] / 2)


def test_dots_of_emotions_and_costs(tmp_path):
    store = RunStore(tmp_path)
    fill_table(store, TABLES["table3"], TABLES["table3"].rows[-1:])
    emotions = figure("dots", store, table="table3").content.decode()
    assert ">MFN †<" in emotions
    assert ">† quoted by the paper<" in emotions
    assert ">Majority class<" in emotions
    fill_table(store, TABLES["table8"], TABLES["table8"].rows[:1])
    costs = figure("dots", store, table="table8").content.decode()
    assert ">Parameters ↓<" in costs
    assert "120M" in costs


def test_an_axis_of_dots_shows_all_marks_and_cuts_wide_intervals(tmp_path):
    from studies.figures.dots import draw
    from studies.figures.drawing import Source, style

    store = RunStore(tmp_path)
    fill_table(store, TABLE4, TABLE4.rows, seeds=3)  # an interval is 4.3 standard errors to a side
    result = table_result(TABLE4, store)
    with style():
        axes = draw(Source(store, result)).picture.axes
    arrows = 0
    for axis, column in zip(axes, TABLE4.columns, strict=True):
        entries = [row.cells[column.metric] for row in result.rows]
        marks = [e.stat.mean for e in entries if e.stat] + [e.paper.value for e in entries if e.paper]
        low, high = axis.get_xlim()
        span = max(marks) - min(marks)
        assert low < min(marks)
        assert max(marks) < high
        assert high - low < 2.5 * span
        cut = [e for e in entries if e.stat and e.stat.high is not None and e.stat.high > high]
        assert len([line for line in axis.lines if line.get_marker() == ">"]) == len(cut)
        arrows += len(cut)
    assert arrows > 0


def test_synthetic_data_is_said_in_caption_and_alternative_text(tmp_path):
    store = RunStore(tmp_path)
    fill_table(store, TABLE4, [WITHOUT, HYCON], corpus="synthetic", profile="demo")
    for name, table in SHOWN.items():
        drawn = figure(name, store, View(profile="demo"), table=table)
        assert "SYNTHETIC DATA: these numbers say nothing about the paper." in drawn.caption
        assert drawn.alt.startswith("SYNTHETIC DATA. ")
        assert drawn.corpus == "synthetic"
        assert ">SYNTHETIC DATA.</text>" in drawn.content.decode()  # the picture may travel alone


@pytest.mark.parametrize("name", ["dots", "curves", "fig4"])
def test_a_dollar_is_no_formula(store, tmp_path, name):
    note = "read as $x_{$"
    folder = RunStore(tmp_path)
    shutil.copytree(store.root, tmp_path, dirs_exist_ok=True)
    for path in tmp_path.glob("runs/*/record.json"):
        path.write_text(json.dumps({**json.loads(path.read_text()), "notes": [note]}))
    drawn = figure(name, folder, table="table4", rows=[WITHOUT.name, HYCON.name])
    assert note.encode() in drawn.content


NASTY = "\x1b]0;owned\x07 a\u202eb\x00\x01\ufffe\x9b31m ]]> --> <b>&\"' $x_{$ \U0001f600"


@pytest.mark.parametrize("name", ["dots", "curves"])
def test_an_svg_is_xml_whatever_emotions_and_notes_are_called(tmp_path, name):
    emotions = [NASTY, "happy", "s\x0bad"]
    store, table = RunStore(tmp_path), for_emotions(TABLES["table3"], emotions)
    fill_table(store, table, table.rows[-1:], corpus="own")
    remember_corpus(store, manifest("own", task="emotion", emotions=emotions, notes=[NASTY]))
    drawn = figure(name, store, View("own"), table="table3")
    ET.fromstring(drawn.content)
    assert visible(drawn.content.decode()) == drawn.content.decode()
    if name == "dots":
        assert r"\u001b]0;owned\u0007" in drawn.content.decode()  # shown, not left out
    for format in ("png", "pdf"):
        assert figure(name, store, View("own"), table="table3", format=format).content


def test_a_picture_says_what_stands_in_for_the_papers_data(store):
    for name, table in SHOWN.items():
        drawn = figure(name, store, table=table)
        assert "Not run as in the paper: " in drawn.content.decode(), name


# ------------------------------------------------------------------------------------------------- bytes


@pytest.mark.parametrize("format", ["svg", "png", "pdf"])
@pytest.mark.parametrize("name", SHOWN)
def test_the_same_results_give_the_same_bytes(store, name, format):
    import matplotlib

    first = figure(name, store, table="table4", rows=[HYCON.name], format=format).content
    with matplotlib.rc_context({"font.size": 30, "svg.fonttype": "path"}):  # of a user's matplotlibrc
        assert figure(name, store, table="table4", rows=[HYCON.name], format=format).content == first
        assert matplotlib.rcParams["font.size"] == 30
    assert first.startswith({"svg": b"<svg", "png": b"\x89PNG", "pdf": b"%PDF"}[format])


def test_an_svg_can_stand_in_a_page_with_others(store):
    drawn = [figure(name, store, table="table4") for name in SHOWN]
    pages = [one.content.decode() for one in drawn]
    ids = [found for page in pages for found in re.findall(r'\sid="([^"]+)"', page)]
    assert len(ids) == len(set(ids))
    for one, page in zip(drawn, pages, strict=True):
        root = ET.fromstring(page)
        assert root.get("role") == "img"
        title, description = root[0], root[1]
        assert title.text == one.title
        assert description.text == one.alt
        assert root.get("aria-labelledby") == f"{title.get('id')} {description.get('id')}"
        assert HYCON.name in "".join(root.itertext())
        addresses = set(re.findall(r"https?://[^\"\s]+", page))
        assert addresses == {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}  # names, not links
        used = re.findall(r'(?:url\(#|href="#)([^)"]+)', page)
        assert used
        assert set(used) <= set(ids)
        style = re.search(r"<style[^>]*>(.*?)</style>", page)
        assert style
        assert style[1].startswith(f"#{root.get('id')} ")


# ------------------------------------------------------------------------------------------------- mistakes


def test_missing_runs_are_named_with_the_command_that_makes_them(tmp_path):
    store = RunStore(tmp_path)
    fill_table(store, TABLE4, [HYCON], seeds=1)
    with pytest.raises(UserError, match=re.escape(f"runs of {WITHOUT.name} on corpus mosi: `bench run table4`")):
        figure("fig4", store)
    for name in ("curves", "dots"):
        with pytest.raises(UserError, match=r"table2 has no finished runs of any .* on corpus mosei"):
            figure(name, store, table="table2")
    with pytest.raises(UserError, match="runs of HyCon-v2 on"):
        figure("fig4", store, rows=["HyCon", "HyCon-v2"])


def test_runs_without_representation_and_emotions_are_refused_by_fig4(tmp_path):
    old = RunStore(tmp_path / "old")
    fill_table(old, TABLE4, [WITHOUT, HYCON], multimodal=False)
    with pytest.raises(UserError, match=r"keeps no multimodal representation.*delete .*old/runs/"):
        figure("fig4", old)
    felt = RunStore(tmp_path / "felt")
    fill_table(felt, TABLES["table3"], TABLES["table3"].rows[-2:])
    with pytest.raises(UserError, match="corpus iemocap are emotions"):
        figure("fig4", felt, table="table3", rows=["HyCon"])


def test_fig4_of_a_published_folder_says_what_is_not_there(store):
    for file in store.root.glob("runs/*/predictions.npz"):
        file.unlink()
    with pytest.raises(UserError, match=r"published results come without them") as said:
        figure("fig4", store)
    assert str(store.root) not in str(said.value)


def test_fig4_refuses_to_compare_different_utterances(tmp_path):
    store = RunStore(tmp_path)
    fill_table(store, TABLE4, [WITHOUT], seeds=1, points=30)
    fill_table(store, TABLE4, [HYCON], seeds=1, points=31)
    with pytest.raises(UserError, match="have different test utterances"):
        figure("fig4", store)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "fig5"}, "Unknown figure 'fig5'; nearest: fig4"),
        ({"name": "dots", "format": "jpg"}, "Unknown format 'jpg'"),
        ({"name": "dots", "table": "table9"}, "Unknown table 'table9'"),
        ({"name": "dots", "rows": ["HyCan"]}, "no row 'HyCan'"),
    ],
)
def test_unknown_names(store, options, message):
    with pytest.raises(UserError, match=re.escape(message)):
        figure(options.pop("name"), store, **options)


def test_without_the_extra_one_sentence_says_what_to_install(store, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(UserError, match=re.escape('pip install -e ".[plots]"')):
        figure("dots", store, table="table4")


# ------------------------------------------------------------------------------------------------- the command


def bench(capsys, *arguments) -> tuple[int, str, str]:
    code = main(["figure", *map(str, arguments)])
    out, err = capsys.readouterr()
    return code, out, err


def test_the_command_writes_the_picture_and_prints_where_and_what(tmp_path, capsys):
    store = RunStore(tmp_path / "results")
    fill_table(store, TABLE4, [WITHOUT, HYCON], seeds=2)
    code, out, _ = bench(capsys, "fig4", "--results", store.root)
    file = store.root / "figures" / "fig4-mosi.svg"
    assert code == 0
    assert out.splitlines()[0] == str(file)
    assert file.read_bytes() == figure("fig4", store).content
    assert "n = 2: silhouette" in out
    assert "knn_accuracy" in out
    chosen = tmp_path / "dots.PDF"
    options = ["--table", "table4", "--results", store.root, "--output", chosen, "--json"]
    code, out, _ = bench(capsys, "dots", *options)
    said = json.loads(out)
    assert code == 0
    assert chosen.read_bytes().startswith(b"%PDF")
    assert said["file"] == str(chosen)
    assert said["numbers"] == figure("dots", store, table="table4").numbers
    assert said["alt"]


def test_the_command_refuses_before_it_writes(tmp_path, capsys):
    results = tmp_path / "results"
    fill_table(RunStore(results), TABLE4, [HYCON], seeds=2)
    for arguments, message in (
        (["fig4"], "has no finished runs of HyCon (W/O Contrast Learning)"),
        (["fig9"], "Unknown figure"),
        ([], "Which figure?"),
        (["dots", "--profile", "dmeo"], "dmeo"),
        (["dots", "--table", "table4", "--output", tmp_path / "none" / "x.svg"], "Cannot write"),
    ):
        code, out, err = bench(capsys, *arguments, "--results", results)
        assert (code, out) == (2, "")
        assert message in err
    assert not (results / "figures").exists()
    assert not (tmp_path / "none").exists()


def test_the_list_needs_no_plotting(capsys):
    code = "import sys; from studies.cli import main; main(['figure', '--list', '--json'])"
    code += "; assert not {'matplotlib', 'sklearn', 'torch', 'pandas', 'scipy', 'optuna'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert [item["name"] for item in json.loads(done.stdout)] == ["fig4", "curves", "dots", "robustness"]
    assert bench(capsys, "--list")[1].startswith("fig4 ")


# ------------------------------------------------------------------------------------------------- robustness


def robust(error: float) -> dict:
    """Made-up robustness: Acc2 falls by a tenth of what is dropped, MAE rises by it."""
    found = {}
    for number, condition in enumerate(CONDITIONS):
        fall = error + condition.amount / 10 + number / 1000
        found[condition.name] = {"paper": {"acc7": 0.3, "acc2": 0.8 - fall, "f1": 0.8, "mae": 0.8 + fall, "corr": 0.5}}
    return found


@pytest.fixture
def measured(tmp_path) -> RunStore:
    store = RunStore(tmp_path / "results")
    given = [{"robustness": robust(0.01 * i), "robustness_draws": DRAWS} for i in range(3)]
    fill(store, [0.1, 0.2, 0.3], robustness=[g["robustness"] for g in given], robustness_draws=DRAWS)
    fill(store, [0.1, 0.2], row="TFN-GloVe")
    return store


def test_robustness_has_a_mean_and_an_interval_at_every_share(measured):
    drawn = figure("robustness", measured)
    assert {n["row"] for n in drawn.numbers} == {"EF-LSTM-GloVe"}
    assert len(drawn.numbers) == 3 * 2 * 11
    for modality in ("text", "audio", "vision"):
        of = [n for n in drawn.numbers if (n["modality"], n["metric"]) == (modality, "acc2")]
        assert [n["share"] for n in of] == [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1]
        expected = [robust(0.01 * i)[f"missing_{modality}"]["paper"]["acc2"] for i in range(3)]
        assert of[-1]["mean"] == pytest.approx(100 * np.mean(expected))
        assert of[-1]["low"] < of[-1]["mean"] < of[-1]["high"]
    assert "Robustness not measured, and left out: TFN-GloVe." in drawn.caption
    assert drawn.stem == "robustness-mosi"


def test_shares_of_one_row_are_said_to_be_none_or_all(measured):
    said = "Audio has one row an utterance here, of which shares below 0.5 drop nothing and all others everything"
    assert said not in figure("robustness", measured).caption
    counts = {"audio": {"test": {"rows": 9, "utterances": 9}}, "vision": {"test": {"rows": 10, "utterances": 9}}}
    remember_corpus(measured, manifest(repeats=counts))
    assert said in figure("robustness", measured).caption
    assert said in render(table_result(TABLES["robustness"], measured), "md")
    assert said in " ".join(render(table_result(TABLES["robustness"], measured), "text").split())
    assert said not in render(table_result(TABLES["table1"], measured), "md")
    curve = [0.8] * 5 + [0.6] * 6  # the area that the sentence tells
    assert area(list(zip(np.linspace(0, 1, 11), curve, strict=True))) == pytest.approx(0.45 * 0.8 + 0.55 * 0.6)


def test_robustness_that_was_not_measured_says_how(measured):
    with pytest.raises(UserError, match=r"^Robustness not measured in 1 row: `bench run robustness --rows TFN-GloVe`"):
        figure("robustness", measured, rows=["TFN-GloVe"])
    with pytest.raises(UserError, match="robustness has no finished runs of MULT-GloVe"):
        figure("robustness", measured, rows=["MULT-GloVe"])
    with pytest.raises(UserError, match="runs of table1 are not measured for it: leave --table out"):
        figure("robustness", measured, table="table1")


@pytest.mark.parametrize("format", ["svg", "png", "pdf"])
def test_the_same_robustness_gives_the_same_bytes(measured, format):
    assert (
        figure("robustness", measured, format=format).content == figure("robustness", measured, format=format).content
    )


def test_many_rows_of_robustness_stay_apart():
    from studies.figures.robustness import _look

    looks = [tuple(map(str, _look(i).values())) for i in range(24)]
    assert len(set(looks)) == 24


def test_rows_of_which_some_runs_were_measured_say_so(tmp_path):
    store = RunStore(tmp_path / "results")
    fill(store, [0.1, 0.2, 0.3], robustness=[robust(0), robust(0.1), {}], robustness_draws=[DRAWS, DRAWS, None])
    result = table_result(TABLES["robustness"], store)
    row = result.rows[0]
    assert row.reason == "robustness not measured in 1 of 3"
    assert row.cells["auc_text_acc2"].stat.n == 2
    assert row.cells["acc2"].stat.n == 3
