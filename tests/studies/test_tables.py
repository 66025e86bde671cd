"""Tables as data, and how runs fill them: status, means, best, verdicts and what rules verdicts out."""

import dataclasses
import subprocess
import sys

import pytest

import studies.aggregate.cells
from hycon.data.manifest import Manifest
from hycon.metrics import constant_metrics
from studies.aggregate.caption import caption
from studies.aggregate.cells import CONSTANT, assemble, corpus_info
from studies.aggregate.comparability import mixture
from studies.aggregate.obstacles import CorpusInfo, is_paper_encoder, other_sizes
from studies.aggregate.render import render
from studies.paper import PaperValue, paper_table
from studies.registry import MODELS, resolve
from studies.store.record import RunRecord, RunSpec
from studies.tables import TABLES, Column, Row, TableSpec

ACC2 = Column("acc2", "Acc2", 100, 1, True)
MAE = Column("mae", "MAE", 1, 3, False)
A, B, C = Row("A-BERT", "tfn", "bert"), Row("B-BERT", "hycon", "bert"), Row("C-GloVe", "qmf", "glove", quoted=True)
SMALL = TableSpec("table1", "Small", "mosi", (ACC2, MAE), (A, B, C))
PAPER = {
    ("A-BERT", "acc2"): "80.0",
    ("A-BERT", "mae"): "0.900",
    ("B-BERT", "acc2"): "85.0",
    ("C-GloVe", "acc2"): "70.0",
}
BERT = {"name": "bert-base-uncased", "sha256": "0"}
SIZES = (1284, 229, 686)
MOSI = CorpusInfo("mosi", sizes=SIZES)


@pytest.fixture(autouse=True)
def made_up_paper(monkeypatch):
    def value(table, corpus, row, metric):
        text = PAPER.get((row, metric)) if (table, corpus) == ("table1", "mosi") else None
        return PaperValue(text, float(text), quoted=row == "C-GloVe") if text else None

    monkeypatch.setattr(studies.aggregate.cells, "paper_value", value)


def runs(row, acc2, mae=0.9, encoder=BERT, status="done", reason=None, notes=(), protocol="paper"):
    """One record per value of acc2."""
    return [
        RunRecord(
            RunSpec(row.model, 1, row.text, "mosi", "sha", dict(row.config), {}, seed=seed, encoder=encoder),
            status,
            reason=reason,
            metrics={"test": {protocol: {"acc2": value, "mae": mae}}} if status == "done" else {},
            notes=list(notes),
        )
        for seed, value in enumerate(acc2)
    ]


def filled(records=None, status=None, corpus=MOSI, **options):
    result = assemble(SMALL, records or {}, status or {}, corpus=corpus, **options)
    return {row.row.name: row for row in result.rows}, result


# -------------------------------------------------------------------------------------------------- the specs


PAPERS = [name for name, table in TABLES.items() if not table.beyond]


def test_the_tables_are_the_papers_eight_and_six_of_ours():
    assert [f"table{i}" for i in range(1, 9)] == PAPERS
    ours = ["sensitivity", "modalities", "beyond", "tuning", "robustness", "robustness_emotions"]
    assert [name for name in TABLES if name not in PAPERS] == ours
    for table in TABLES.values():
        assert len({row.name for row in table.rows}) == len(table.rows)
        assert not any("," in row.name for row in table.rows)  # --rows A,B


@pytest.mark.parametrize("name", PAPERS)
def test_rows_and_columns_are_the_papers_in_its_order(name):
    """Rows that the paper does not have may stand among them."""
    table = TABLES[name]
    paper = paper_table(name)
    papers = list(dict.fromkeys(row for _, row, _ in paper))
    assert papers == [row.name for row in table.rows if row.name in papers]
    printed = list(dict.fromkeys(metric for (_, _, metric), value in paper.items() if not value.in_text))
    assert printed == [column.metric for column in table.columns][: len(printed)]
    assert len(printed) == len(table.columns) or name == "table8"  # where we add inference and memory
    assert {corpus for corpus, _, _ in paper} == {table.corpus}
    assert {row.name for row in table.rows if row.quoted} == {row for (_, row, _), v in paper.items() if v.quoted}


@pytest.mark.parametrize("name", PAPERS)
def test_columns_print_as_many_decimals_as_the_paper(name):
    for (_, _, metric), value in paper_table(name).items():
        column = next(column for column in TABLES[name].columns if column.metric == metric)
        assert len(value.text.partition(".")[2]) == column.decimals


@pytest.mark.parametrize("name", ["table1", "table2"])
def test_tables_1_and_2_have_the_papers_22_rows_and_all_have_distinct_settings(name):
    rows = TABLES[name].rows
    assert len({row.name for row in rows} & {row for _, row, _ in paper_table(name)}) == 22
    assert len({(row.model, row.text, tuple(row.config.items())) for row in rows}) == len(rows)


def test_ablated_rows_are_the_model_s_own_ablations_and_shared_cells_are_the_same_runs():
    from hycon.model import ABLATIONS

    parts = ("contrast", "refinement", "margin", "iamcl", "iemcl", "scl")
    parts += ("positive-selection", "negative-selection")
    ablated = [dict(row.config) for row in TABLES["table4"].rows if "W/O" in row.name]
    assert ablated == [ABLATIONS[part] for part in parts]
    whole = {"HyCon", "HyCon-BERT", "Addition (defaulted)", "HyCon (α = 0.8)"}
    rows = [row for name in ("table1", "table4", "table5", "table6", "table7") for row in TABLES[name].rows]
    same = [row for row in rows if row.name in whole]
    assert len(same) == 5
    assert {(row.model, row.text, tuple(row.config)) for row in same} == {("hycon", "bert", ())}
    margins = [resolve("hycon", "bert", row.config)[0].margin for row in TABLES["table6"].rows]
    assert margins == [0.5, 0.7, 0.8, 0.9]  # 0.8 is the default


@pytest.mark.parametrize("name", TABLES)
def test_models_have_the_front_end_and_options_of_their_rows(name):
    for row in TABLES[name].rows:
        assert row.model in MODELS
        config, training = resolve(row.model, row.text, row.config)
        assert vars(config) | vars(training) | row.config == vars(config) | vars(training)


# -------------------------------------------------------------------------------------------------- assemble


def test_a_measured_row_has_mean_spread_interval_and_verdict_in_the_papers_units():
    rows, _ = filled({"A-BERT": runs(A, [0.79, 0.80, 0.81])})
    row = rows["A-BERT"]
    entry = row.cells["acc2"]
    assert (row.status, row.reason, row.n, row.encoder, row.obstacles) == ("measured", "", 3, "bert-base-uncased", ())
    assert entry.stat.mean == pytest.approx(80.0)
    assert entry.stat.sd == pytest.approx(1.0)
    assert entry.stat.low < 79.0
    assert entry.stat.high > 81.0
    assert entry.paper.text == "80.0"
    assert entry.verdict == "inconclusive"
    assert row.cells["mae"].verdict == "reproduced"


def test_each_verdict_is_reached():
    records = {"A-BERT": runs(A, [0.900, 0.901, 0.902]), "B-BERT": runs(B, [0.850, 0.851, 0.849])}
    rows, _ = filled(records)
    assert rows["A-BERT"].cells["acc2"].verdict == "differs"
    assert rows["B-BERT"].cells["acc2"].verdict == "reproduced"
    assert rows["B-BERT"].cells["mae"].verdict == "not comparable"  # the paper prints nothing there
    assert rows["C-GloVe"].cells["acc2"].verdict == "quoted"
    rows, _ = filled({"A-BERT": runs(A, [0.8])})
    assert rows["A-BERT"].cells["acc2"].verdict == "too few seeds"
    assert rows["A-BERT"].cells["acc2"].stat.sd is None
    assert rows["B-BERT"].cells["acc2"].verdict == "not run"
    assert rows["B-BERT"].cells["acc2"].stat is None


def test_status_of_rows_without_runs():
    rows, _ = filled({}, {"A-BERT": ("missing", "not built yet")})
    assert [(row.status, row.reason, row.n) for row in rows.values()] == [
        ("missing", "not built yet", 0),
        ("missing", "not run yet", 0),
        ("quoted", "", 0),
        ("reference", f"{CONSTANT}, not known: the corpus is not imported here, or has changed since", 0),
    ]
    rows, _ = filled({}, {"A-BERT": ("failed", "out of memory"), "C-GloVe": ("missing", "not built yet")})
    assert (rows["A-BERT"].status, rows["A-BERT"].reason) == ("failed", "out of memory")
    assert (rows["C-GloVe"].status, rows["C-GloVe"].reason) == ("quoted", "not built yet")


def test_failed_runs_are_told_and_never_counted():
    failed = runs(A, [0, 0], status="failed", reason="non-finite loss at epoch 1, step 2")
    rows, _ = filled({"A-BERT": failed})
    assert (rows["A-BERT"].status, rows["A-BERT"].reason) == ("failed", "non-finite loss at epoch 1, step 2")
    rows, _ = filled({"A-BERT": failed + runs(A, [0.8, 0.82])})
    row = rows["A-BERT"]
    assert (row.status, row.n, row.cells["acc2"].stat.n) == ("measured", 2, 2)
    assert row.reason == "2 of 4 runs failed: non-finite loss at epoch 1, step 2"
    assert row.failed == 2
    rows, _ = filled(
        {"A-BERT": failed + runs(A, [0.8, 0.82])}, {"A-BERT": ("missing", "1 of 5 seeded runs to do")}
    )  # runs to do hide no failure
    assert rows["A-BERT"].reason == f"{row.reason}; 1 of 5 seeded runs to do"


def test_a_quoted_row_that_was_run_is_measured_beside_the_quoted_number():
    rows, _ = filled(
        {"C-GloVe": runs(C, [0.7, 0.71], encoder=None)}, corpus=CorpusInfo("mosi", encoders={"glove": "x"})
    )
    assert rows["C-GloVe"].status == "measured"
    assert rows["C-GloVe"].cells["acc2"].paper.quoted


def test_best_is_per_column_by_its_direction_and_only_measured():
    rows, _ = filled({"A-BERT": runs(A, [0.60], mae=0.8), "B-BERT": runs(B, [0.61], mae=0.9)})
    best = {(name, metric) for name, row in rows.items() for metric, entry in row.cells.items() if entry.best}
    assert best == {("B-BERT", "acc2"), ("A-BERT", "mae")}  # the quoted C-GloVe is higher, and no candidate


def test_ties_as_printed_are_both_best_and_one_row_is_not_a_contest():
    rows, _ = filled({"A-BERT": runs(A, [0.80012]), "B-BERT": runs(B, [0.80034])})
    assert rows["A-BERT"].cells["acc2"].best
    assert rows["B-BERT"].cells["acc2"].best
    rows, _ = filled({"A-BERT": runs(A, [0.8])})
    assert not rows["A-BERT"].cells["acc2"].best


MINILM = {"name": "all-MiniLM-L6-v2", "sha256": "0"}


@pytest.mark.parametrize(
    "corpus, options, obstacle",
    [
        (CorpusInfo("mosi", synthetic=True), {}, "synthetic data"),
        (CorpusInfo("mosi_copy", sizes=SIZES), {}, "the corpus is mosi_copy, not mosi"),
        (CorpusInfo("mosi", notes=("audio/vision resampled",), sizes=SIZES), {}, "audio/vision resampled"),
        (MOSI, {"notes": ["a short search"]}, "a short search"),
        (MOSI, {"encoder": MINILM}, "the text encoder is all-MiniLM-L6-v2, not bert-base-uncased"),
        (MOSI, {"encoder": None}, "the text encoder is no pretrained encoder, not bert-base-uncased"),
    ],
)
def test_whatever_is_not_the_papers_gets_no_verdict(corpus, options, obstacle):
    rows, _ = filled({"A-BERT": runs(A, [0.8, 0.8, 0.8], **options)}, corpus=corpus)
    assert rows["A-BERT"].obstacles == (obstacle,)
    assert {entry.verdict for entry in rows["A-BERT"].cells.values()} == {"not comparable"}
    assert rows["B-BERT"].cells["acc2"].verdict == "not run"


def test_another_protocol_reads_its_metrics_and_gets_no_verdict():
    rows, _ = filled({"A-BERT": runs(A, [0.8, 0.8], protocol="mmsa")}, protocol="mmsa")
    assert rows["A-BERT"].cells["acc2"].stat.mean == pytest.approx(80.0)
    assert rows["A-BERT"].cells["acc2"].verdict == "not comparable"
    rows, _ = filled({"A-BERT": runs(A, [0.8, 0.8], protocol="mmsa")})
    assert rows["A-BERT"].cells["acc2"].stat is None


def test_notes_are_joined_without_repeats():
    records = {"A-BERT": runs(A, [0.8, 0.8], notes=["x", "y"])}
    _, result = filled(records, corpus=CorpusInfo("mosi", notes=("x",)))
    assert result.notes == ("x", "y")


def test_a_misspelt_row_is_an_error():
    with pytest.raises(ValueError, match="A-BRT"):
        filled({"A-BRT": runs(A, [0.8])})


def test_word_vectors_of_a_manifest_decide_about_glove_rows():
    def info(dim):
        vectors = {"file": "glove.txt", "dim": dim}
        return corpus_info(Manifest("mosi", "sentiment", {}, {}, {}, {}, "word", {}, {}, ["n"], vectors))

    assert info(300) == CorpusInfo("mosi", ("n",), False, {"glove": "glove.txt (300-d)"})
    assert is_paper_encoder("glove", info(300).encoders["glove"])
    assert not is_paper_encoder("glove", info(150).encoders["glove"])
    assert not is_paper_encoder("features", "anything")
    assert corpus_info(Manifest("mosi", "sentiment", {}, {}, {}, {}, "word", {}, {})).encoders == {}


@pytest.mark.parametrize(("missing", "said"), [(0, ""), (5, ""), (20, ", none for 20 % of the words")])
def test_word_vectors_that_lack_words_are_not_the_papers(missing, said):
    vectors = {"file": "glove.txt", "dim": 300, "tokens": {"exact": 90 - missing, "lower": 10, "missing": missing}}
    found = corpus_info(Manifest("mosi", "sentiment", {}, {}, {}, {}, "word", {}, {}, [], vectors)).encoders["glove"]
    assert found == f"glove.txt (300-d{said})"
    assert is_paper_encoder("glove", found) == (not said)


def test_importing_tables_and_rendering_loads_nothing_heavy():
    code = (
        "import sys, studies.aggregate.render, studies.statistics.cell; "
        "print([m for m in ('torch', 'pandas', 'scipy', 'transformers', 'tabulate') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_a_short_search_rules_out_its_own_row_only():
    records = {"A-BERT": runs(A, [0.80, 0.80, 0.801]), "B-BERT": runs(B, [0.850, 0.851, 0.849])}
    rows, _ = filled(records, budgets={"A-BERT": "50 trials", "B-BERT": "3 trials"})
    assert rows["A-BERT"].cells["acc2"].verdict == "reproduced"
    assert rows["A-BERT"].obstacles == ()
    assert rows["B-BERT"].cells["acc2"].verdict == "not comparable"
    assert rows["B-BERT"].obstacles == ("a search of 3 trials, not 50 trials",)


def test_costs_come_from_the_records_and_counts_must_be_exact(monkeypatch):
    monkeypatch.setattr(studies.aggregate.cells, "paper_value", lambda t, c, row, m: paper_table(t).get((c, row, m)))
    spec = RunSpec("hycon", 1, "bert", "mosi", "sha", {}, {}, seed=0, encoder=BERT)
    cost = {"seconds": 300.0, "seconds_per_epoch": 30.0, "test_seconds": 1.5, "peak_memory_mib": 4000.0}
    right, wrong = (
        [RunRecord(dataclasses.replace(spec, seed=s), "done", parameters=n, **cost) for s in (0, 1)]
        for n in (109_209_149, 109_209_150)
    )
    result = assemble(TABLES["table8"], {"HyCon": right, "HyCon-v2": wrong}, {}, corpus=MOSI)
    rows = {row.row.name: row for row in result.rows}
    assert rows["HyCon"].cells["parameters"].verdict == "reproduced"
    assert rows["HyCon-v2"].cells["parameters"].verdict == "differs"
    assert rows["HyCon"].cells["train_seconds"].verdict == "not comparable"
    assert rows["HyCon"].cells["test_seconds"].stat.mean == 1.5
    assert rows["MAG-BERT"].cells["parameters"].paper.value == 118_679_809
    assert "109,209,149 ± 0 (2)" in render(result, "text")


# -------------------------------------------------------------------------------------------------- emotions


def felt(average, seed=0):
    """A run whose metrics of happy are known, and the labels' majority line."""
    names = ("happy", "sad", "angry", "neutral")
    scores = {key: {"acc": 0.8, "f1": 0.7} for key in names} | {"average": {"acc": average, "f1": 0.7}}
    majority = {key: {"acc": 0.75, "f1": 0.6} for key in names} | {"average": {"acc": 0.75, "f1": 0.6}}
    spec = RunSpec("hycon", 1, "glove", "iemocap", "sha", {}, {}, seed=seed)
    return RunRecord(spec, "done", metrics={"test": {"emotions": scores, "majority": majority}})


def test_emotion_tables_end_with_the_majority_class():
    table = TABLES["table3"]
    result = assemble(table, {"HyCon": [felt(0.82), felt(0.84, 1)]}, {}, corpus=CorpusInfo("iemocap"))
    rows = {row.row.name: row for row in result.rows}
    assert rows["HyCon"].cells["average_acc"].stat.mean == pytest.approx(83.0)
    assert rows["HyCon"].cells["happy_f1"].stat.mean == pytest.approx(70.0)
    last = result.rows[-1]
    assert (last.row.name, last.status, last.n) == ("Majority class", "reference", 0)
    assert last.cells["sad_acc"].stat.mean == pytest.approx(75.0)
    assert not any(entry.best for entry in last.cells.values())


def test_the_majority_class_is_there_before_anything_was_run():
    """From the imported corpus's labels; without one the line says what would fill it."""
    names, sizes = ["neutral", "happy", "sad", "angry"], {"train": 1, "valid": 1, "test": 4}
    manifest = Manifest("iemocap", "emotion", {}, sizes, {}, {}, "none", {}, {}, emotions=names)
    counted = dataclasses.replace(manifest, positives={"test": [3, 1, 2, 0]})
    for known, expected in ((counted, [75.0, 75.0, 50.0, 100.0]), (manifest, [None] * 4)):
        result = assemble(TABLES["table3"], {}, {}, corpus=corpus_info(known))
        last = result.rows[-1]
        stats = [last.cells[f"{name}_acc"].stat for name in names]
        assert [stat and stat.mean for stat in stats] == expected
        assert (last.row.name, "imported" in last.reason) == ("Majority class", expected[0] is None)
        assert "Majority class" in render(result, "text")
    assert last.cells["average_f1"].stat is None
    assert "Majority class" not in {row.row.name for row in assemble(TABLES["table1"], {}, {}, corpus=MOSI).rows}


# -------------------------------------------------------------------------------------------------- the constant


def test_sentiment_tables_end_with_the_best_constant_prediction_and_costs_do_not():
    reached = constant_metrics([1.0, 2.0, -1.0, 0.0], [1.0, -2.0, 3.0])
    known = dataclasses.replace(MOSI, constant=reached)
    result = assemble(TABLES["table1"], {}, {}, corpus=known)
    last = result.rows[-1]
    assert (last.row.name, last.status, last.reason, last.n) == ("Constant prediction", "reference", CONSTANT, 0)
    means = {metric: entry.stat.mean for metric, entry in last.cells.items()}
    assert means["acc2"] == pytest.approx(100 * 2 / 3)  # two of three are positive, as are most of training
    assert means["acc7"] == 0.0  # -1 is the first of four classes that are equally common in training
    assert means["mae"] == pytest.approx(5 / 3)  # from 1, the median of 1, 2 and -1
    assert means["corr"] == 0.0
    everything = assemble(TABLES["table1"], {}, {}, corpus=known, protocol="all").rows[-1]
    assert everything.cells["mae"].stat.mean == pytest.approx(11 / 6)  # from 0.5, the median of all four
    assert [row.status for row in assemble(TABLES["table8"], {}, {}, corpus=known).rows].count("reference") == 0


# -------------------------------------------------------------------------------------------------- sizes, suites


@pytest.mark.parametrize(
    ("sizes", "obstacle"),
    [
        ((1284, 229, 686), ""),
        ((1281, 229, 685), ""),
        ((1283, 229, 686), ""),
        ((1282, 229, 686), "the corpus has 1282/229/686 utterances, the paper's 1284/229/686"),
        ((7, 7, 7), "the corpus has 7/7/7 utterances, the paper's 1284/229/686"),
        (None, "the sizes of corpus mosi are not known"),
    ],
)
def test_other_sizes_than_the_papers_rule_verdicts_out_and_stand_in_the_caption(sizes, obstacle):
    rows, result = filled({"A-BERT": runs(A, [0.8, 0.8, 0.8])}, corpus=CorpusInfo("mosi", sizes=sizes))
    assert rows["A-BERT"].obstacles == ((obstacle,) if obstacle else ())
    assert rows["A-BERT"].cells["acc2"].verdict == ("not comparable" if obstacle else "reproduced")
    text = caption(result).text()
    if sizes:
        assert "/".join(map(str, sizes)) in render(result, "text")
        assert f"Corpus: mosi, {'/'.join(map(str, sizes))} utterances for training, validation and test" in text
    assert ("(the paper: 1284/229/686" in text) == (sizes not in (None, SIZES))
    assert ("lacks four utterances" in text) == (sizes == (1281, 229, 685))


def test_sizes_are_the_papers_of_that_corpus_and_iemocaps_are_not_printed():
    assert other_sizes("mosei", CorpusInfo("mosei", sizes=SIZES)).endswith("the paper's 16265/1869/4643")
    assert other_sizes("iemocap", CorpusInfo("iemocap", sizes=(1, 2, 3))) == ""
    assert other_sizes("mosi", CorpusInfo("mosi_resampled", sizes=(7, 7, 7))).startswith("the corpus has 7/7/7")


def test_runs_of_an_earlier_protocol_say_so_and_get_no_verdict(monkeypatch):
    monkeypatch.setattr(RunSpec, "suite", 9)  # what code of today gives a new run
    records = [dataclasses.replace(r, spec=dataclasses.replace(r.spec, suite=8)) for r in runs(A, [0.8] * 3)]
    rows, result = filled({"A-BERT": records})
    assert rows["A-BERT"].obstacles == ("run under an earlier protocol (suite 8)",)
    assert rows["A-BERT"].cells["acc2"].verdict == "not comparable"
    assert "Run under an earlier protocol (suite 8)." in " ".join(render(result, "text").split())
    today = [dataclasses.replace(r, spec=dataclasses.replace(r.spec, suite=9)) for r in records]
    assert filled({"A-BERT": today})[0]["A-BERT"].obstacles == ()
    assert "suite version" in mixture([*records, *today])
