"""Campaign files: every option of `bench run` can stand in one, the command line goes before it, mistakes are named."""

import json

import pytest
from commands import bench, places

from hycon.errors import UserError
from studies.cli import main, parser
from studies.cli.campaign import expand, keys, read, template


def options_of(*arguments, root=None):
    root = root or parser()
    return expand(root, list(arguments), root.parse_args(list(arguments)))


@pytest.fixture
def campaign(tmp_path):
    """Content -> the name of a campaign file with it."""

    def write(content: str) -> str:
        file = tmp_path / "some.toml"
        file.write_text(content)
        return str(file)

    return write


def differing(*commands) -> dict:
    """What the first command's options have that the second's have not; each command makes one set."""
    first, second = (vars(options_of(*command)[0]) for command in commands)
    return {key: value for key, value in first.items() if key != "parser" and value != second[key]}


# ------------------------------------------------------------------------------------------------- meaning


def test_a_file_is_the_command_line_that_it_spells_out(campaign):
    file = campaign(
        """
        table = "table4"
        corpus = "mine"
        rows = ["HyCon*", "TFN-BERT"]
        trials = 7
        time-limit = 60
        slots = 3
        devices = ["cuda:0", "cuda:1"]
        own-search = true
        mixed = false
        encoder.bert = "some/model"
        [set]
        lr = 1e-5
        epochs = 3
        fusion = "tensor"
        refinement = false
        [cluster-set]
        partition = "gpu"
        """
    )
    spelt = "run table4 --corpus mine --rows HyCon*,TFN-BERT --trials 7 --time-limit 60 --slots 3 --own-search"
    spelt += " --devices cuda:0,cuda:1 --encoder bert=some/model --set lr=1e-05 --set epochs=3 --set fusion=tensor"
    spelt += " --set refinement=false --cluster-set partition=gpu"
    assert differing(("run", file), spelt.split()) == {}
    assert differing(spelt.split(), ("run", file)) == {}


def test_the_command_line_goes_before_the_file(campaign):
    file = campaign('table = "table1"\ntrials = 7\nseeds = 3\nset = {lr = 1.0, hidden = 8}')
    [options] = options_of("run", file, "--trials", "9", "--set", "lr=2")
    assert (options.trials, options.seeds) == (9, 3)
    assert options.set == ["lr=1.0", "hidden=8", "lr=2"]  # of two values the later one holds
    assert options_of("run", "table2", "--campaign", file)[0].table == "table2"
    assert options_of("run", "table2", "--campaign", file)[0].seeds == 3


def test_commands_that_read_take_what_they_have_of_it(campaign):
    file = campaign('table = "table4"\ncorpus = "mine"\nprofile = "demo"\ntrials = 7\nworkers = 2')
    for command in ("table", "status"):
        [options] = options_of(command, file)
        assert (options.table, options.corpus, options.profile) == ("table4", "mine", "demo")
        assert not hasattr(options, "trials")
    for command in (["claims"], ["report"], ["figure", "dots"], ["diff", "A", "B"]):
        [options] = options_of(*command, "--campaign", file)
        assert (options.corpus, options.profile) == ("mine", "demo")
    assert options_of("figure", "dots", "--campaign", file)[0].table == "table4"
    assert options_of("status", "--campaign", file)[0].table == "table4"


def test_one_file_leaves_the_next_command_alone(campaign):
    file = campaign('table = "table1"\ntrials = 7')
    options_of("run", file)
    assert options_of("run", "table1")[0].trials is None


def test_several_tables_are_several_commands(campaign):
    file = campaign('table = ["table1", "table4"]\nrows = ["HyCon*"]')
    assert [options.table for options in options_of("run", file)] == ["table1", "table4"]


def test_each_table_takes_the_rows_that_it_has(campaign):
    file = campaign('table = ["table1", "table4"]\nrows = ["HyCon*", "*-GloVe"]')
    assert [(one.table, one.rows) for one in options_of("run", file)] == [
        ("table1", "HyCon*,*-GloVe"),
        ("table4", "HyCon*"),
    ]
    with pytest.raises(UserError, match=r"table1 has no row that matches '\*-GLVe'"):
        options_of("run", campaign('table = ["table1", "table4"]\nrows = ["HyCon*", "*-GLVe"]'))
    with pytest.raises(UserError, match="table4 has no row 'TFN-BERT'"):
        options_of("run", campaign('table = ["table1", "table4"]\nrows = ["TFN-BERT"]'))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("trials = 3", "--trials is for searches; table8 is measured"),
        ("patience = 3", "a measurement has none"),
    ],
)
def test_what_a_later_table_refuses_is_said_before_the_first_is_run(campaign, tmp_path, capsys, line, said):
    file = campaign(f'table = ["table1", "table8"]\nprofile = "demo"\n{line}')
    code, out, err = bench(capsys, "run", file, *places(tmp_path))
    assert (code, out) == (2, "")
    assert said in err
    assert err.count("\n") == 1
    assert not (tmp_path / "results").exists()


def test_seconds_are_a_number(campaign):
    [one] = options_of("run", campaign('table = "table1"\ncheckpoint-every = 0.5'))
    assert one.checkpoint_every == "0.5"


def test_a_campaign_is_run_and_read(capsys, tmp_path, campaign):
    file = campaign(
        'table = ["table1", "table4"]\nprofile = "demo"\nrows = ["EF-LSTM-GloVe"]\ntrials = 1\nseeds = 1\nepochs = 1\n'
        'executor = "inline"\nquiet = true'
    )
    code, _, err = bench(capsys, "run", file, *places(tmp_path))
    assert (code, "table4 has no row 'EF-LSTM-GloVe'" in err) == (2, True)
    assert not (tmp_path / "results").exists()  # known before the first table has run
    assert bench(capsys, "run", file, "--rows", "*", *places(tmp_path), "--dry-run")[0] == 0
    file = campaign((tmp_path / "some.toml").read_text().replace(', "table4"', ""))
    code, _, err = bench(capsys, "run", file, *places(tmp_path))
    assert (code, err) == (0, "")
    code, out, _ = bench(capsys, "table", file, *places(tmp_path), "--format", "json")
    assert code == 0
    assert [row["n"] for row in json.loads(out)["rows"][:1]] == [1]


# ------------------------------------------------------------------------------------------------- mistakes


MISTAKES = [
    ("sedes = 3", "Unknown key 'sedes' in ", "nearest: seeds"),
    ("time_limit = 3", "Unknown key 'time_limit'", "nearest: time-limit"),
    ('campaign = "other.toml"', "Unknown key 'campaign'", "nearest: "),
    ('trials = "many"', "trials is 'many'", "expected a whole number"),
    ("trials = 2.5", "trials is 2.5", "expected a whole number"),
    ("trials = true", "trials is True", "expected a whole number"),
    ('time-limit = "1h"', "time-limit is '1h'", "expected a number"),
    ("mixed = 1", "mixed is 1", "expected true or false"),
    ("rows = [1, 2]", "rows is [1, 2]", "expected a list of texts"),
    ("rows = []", "rows is []", "expected a list of texts"),
    ("corpus = 3", "corpus is 3", "expected a text"),
    ('corpus = ["mosi", "mosei"]', "corpus is ['mosi', 'mosei']", "expected a text"),
    ("slots = 1.5", "slots is 1.5", "expected a whole number, or a text"),
    ('mps = "maybe"', "mps is 'maybe'", "expected auto or no"),
    ("mps = false", "mps is False", "expected auto or no"),
    ('set = "lr=1"', "set is 'lr=1'", 'expected a table, such as {key = "value"}'),
    ("[set.lr]\nx = 1", "set.lr is a table", "expected a number, a text, true or false"),
    ("set = {lr = 2026-11-27}", "set.lr is datetime.date", "expected a number, a text, true or false"),
    ("trials == 3", "is no TOML file", "line 2"),
]


@pytest.mark.parametrize(("line", "found", "expected"), MISTAKES, ids=[line for line, _, _ in MISTAKES])
def test_mistakes_are_one_sentence(capsys, tmp_path, campaign, line, found, expected):
    code, out, err = bench(capsys, "run", campaign(f'table = "table1"\n{line}'), *places(tmp_path))
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert found in err
    assert expected in err


def test_a_file_that_is_not_there_or_names_no_table(capsys, tmp_path, campaign):
    code, _, err = bench(capsys, "run", tmp_path / "none.toml")
    assert (code, "bench init" in err, err.count("\n")) == (2, True, 1)
    code, _, err = bench(capsys, "run", campaign("trials = 2"))
    assert (code, "has no key table" in err, err.count("\n")) == (2, True, 1)
    code, _, err = bench(capsys, "table", campaign('table = ["table1", "table2"]'), "--output", tmp_path / "one.txt")
    assert (code, "--output is one file" in err) == (2, True)
    code, _, err = bench(capsys, "run", campaign('table = "tabel1"'), *places(tmp_path))
    assert (code, "table1" in err) == (2, True)


# ------------------------------------------------------------------------------------------------- bench init


SETTINGS = [line[1:] for line in template().splitlines() if line.startswith("#") and not line.startswith("##")]


def test_every_key_is_in_the_file_that_init_writes():
    named = {setting.split(" = ")[0].split(".")[0] for setting in SETTINGS}
    assert named | {"table"} == set(keys())


@pytest.mark.parametrize("setting", SETTINGS)
def test_every_commented_line_can_be_uncommented(setting, campaign):
    [options] = options_of("run", campaign(f'table = "table1"\n{setting}'))
    [plain] = options_of("run", "table1")
    changed = [key for key, value in vars(options).items() if value != vars(plain)[key] and key != "parser"]
    assert changed == [setting.split(" = ")[0].split(".")[0].replace("-", "_")] or '"local"' in setting


def test_all_commented_lines_at_once(campaign):
    everything = "\n".join(line.removeprefix("#") for line in template().splitlines())
    assert set(read(campaign(everything))) == {action.dest for action in keys().values()}


def test_init_never_overwrites_unasked(capsys, tmp_path):
    file = tmp_path / "campaign.toml"
    assert bench(capsys, "init", file)[0] == 0
    assert [options.table for options in options_of("run", str(file))] == ["table1"]
    file.write_text("mine")
    code, out, err = bench(capsys, "init", file)
    assert (code, out, file.read_text()) == (2, "", "mine")
    assert "--force" in err
    assert main(["init", str(file), "--force"]) == 0
    assert file.read_text() == template(str(file))
    code, _, err = bench(capsys, "init", tmp_path / "campaign.txt")
    assert (code, ".toml" in err) == (2, True)


def test_options_that_may_be_given_again_are_lists():
    import argparse

    from studies.cli import campaign as module

    again = argparse.ArgumentParser().add_argument("--model", metavar="FILE", action="append", default=[])
    assert module._value("model", "a.py", again) == ["a.py"]
    assert module._value("model", ["a.py", "b.py"], again) == ["a.py", "b.py"]
    with pytest.raises(UserError, match="model is 3; expected a list of texts"):
        module._value("model", 3, again)
    assert module._example(again) == '["FILE"]'


def test_a_file_that_defines_a_table_is_no_campaign(campaign):
    file = campaign("[table]\nrows = []")
    assert [options.table for options in options_of("run", file)] == [file]
