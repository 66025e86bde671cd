"""`bench check-model` and `bench new model`: each check finds the model that breaks it, in words."""

import ast
import json

import pytest
from commands import bench

from studies.authors.check import OF_BATCH, OF_FILE

MEANS = "[sequences.mean() for sequences in (batch.text, batch.audio, batch.vision)]"
OVER_BATCH = "[s.mean() - s.mean().mean(0) for s in (batch.text, batch.audio, batch.vision)]"
LONGEST = "[s.padded().mean(1) for s in (batch.text, batch.audio, batch.vision)]"
NOMINAL = "[s.padded(batch.layout.lengths['text']).mean(1) for s in (batch.text, batch.audio, batch.vision)]"
LEAKED = "means[0] + batch.label.view(len(batch), -1).float().mean(1, keepdim=True)"
TAKEN = "dims: Mapping[str, int], text=None, emotions: int = 0):"
LOSS = """
    def loss(self, output, batch, kind="l1"):
        return (output.prediction - batch.label).abs().mean()
"""
HIDDEN = '"hidden": (32, 64)'
HEAD = "as_prediction(self.head(torch.cat(means, 1)), self.emotions)"
BROKEN = {  # what the check says -> (the check, what is changed)
    "cites nothing": ("the docstring cites", ("(unpublished)", "")),
    "no part that begins with a line 'Deviates:'": ("the docstring cites", ("\nDeviates: none known.\n", "")),
    "DEMO in ": ("VERSION", ("VERSION = 1", 'VERSION = 1\nDEMO = {"vectors": dict(hidden=8)}')),
    "VERSION is '1'": ("VERSION", ("VERSION = 1", "VERSION = '1'")),
    "no frozen dataclass": ("the file defines", ("@dataclass(frozen=True)", "@dataclass")),
    "sets epochs": ("the budget", ("lr=1e-3)", "lr=1e-3, epochs=3)")),
    "depth, which is no option": ("the search space", (HIDDEN, f'{HIDDEN}, "depth": (1, 2)')),
    "Option hidden is 'big'": ("the search space", (HIDDEN, '"hidden": (32, "big")')),
    "searching idle changes nothing": (
        "every searched option",
        ("    hidden: int = 64", "    hidden: int = 64\n    idle: float = 0.1"),
        (HIDDEN, '"idle": (0.1, 0.2)'),
    ),
    "has shape (13, 1), not (13,)": ("forward returns", (HEAD, "self.head(torch.cat(means, 1))")),
    "a prediction is not finite": (
        "forward returns",
        (HEAD, HEAD.replace("means, 1", "[-m.abs() for m in means], 1).log(")),
    ),
    "forward changes batch.audio": ("forward returns", (MEANS, f"{MEANS}\n        batch.audio.rows.mul_(0.5)")),
    "gets another prediction each time": (
        "an utterance's prediction",
        (MEANS, f"{MEANS}\n        means[0] = means[0] + torch.rand(1)"),
    ),
    "no gradient reaches spare.weight": (
        "a finite loss",
        ("self.head = ", "self.spare = nn.Linear(2, 2)\n        self.head = "),
    ),
    "depends on the others in its batch": ("an utterance's prediction", (MEANS, OVER_BATCH)),
    "on the others in its batch (by": ("an utterance's prediction", (MEANS, LONGEST)),
    "nominal length of 14 steps more": ("padding changes", (MEANS, NOMINAL)),
    "of a constant's at best": ("eight utterances", ("means, 1)), self", "means, 1)).tanh() * 1e-3, self")),
    "different weights": (
        "two trainings",
        (MEANS, f"{MEANS}\n        means[0] = means[0] + torch.tensor(__import__('os').urandom(1)[0] / 255)"),
    ),
    "does not pass kind on": ("a loss of its own", ("    def forward", f"{LOSS}\n    def forward")),
    "depends on its label": ("forward does not read", (MEANS, f"{MEANS}\n        means[0] = {LEAKED}")),
    "forward changes batch.label": ("forward does not read", (MEANS, f"{MEANS}\n        batch.label.zero_()")),
    "Model.__init__ does not take (self, config, dims, text, emotions)": ("the file defines", (TAKEN, "emotions=0):")),
    "mean_pool.py, line 36: ZeroDivisionError": ("forward returns", (MEANS, "1 / 0")),
}
NO_REMEDY = ("DEMO in ", "mean_pool.py, line 36: ZeroDivisionError")  # what is said is enough


def test_a_model_that_does_what_every_model_must(written, capsys):
    code, out, err = bench(capsys, "check-model", written(), "--text", "glove")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert all(line.startswith("ok") for line in lines[:-1])
    assert len(lines) == len(OF_FILE) + len(OF_BATCH) + 4
    assert lines[-1].endswith(f"mean_pool.py: all {len(lines) - 1} checks passed.")


@pytest.mark.parametrize("said", BROKEN)
def test_each_check_finds_what_breaks_it(written, capsys, said):
    check, *changes = BROKEN[said]
    code, out, _ = bench(capsys, "check-model", written(*changes), "--text", "glove", "--json")
    failed = [finding for finding in json.loads(out) if not finding["passed"]]
    assert code == 1
    assert [f["check"].startswith(check) for f in failed].count(True) == 1
    [found] = [f for f in failed if f["check"].startswith(check)]
    assert said in found["said"]
    assert bool(found["remedy"]) == (said not in NO_REMEDY)


def test_what_fails_is_said_with_file_and_remedy(written, capsys):
    code, out, _ = bench(capsys, "check-model", written(("(unpublished)", "")), "--text", "glove")
    assert code == 1
    assert (
        "FAIL  the docstring cites its source and says where it deviates\n        the docstring cites nothing." in out
    )
    assert 'To mend it: name authors, venue and year, or say "unpublished".' in out
    assert "mean_pool.py: 1 of " in out


def test_all_that_a_docstring_lacks_is_said_at_once(written, capsys):
    neither = (("(unpublished)", ""), ("\nDeviates: none known.\n", ""))
    code, out, _ = bench(capsys, "check-model", written(*neither), "--text", "glove")
    assert code == 1
    assert "the docstring cites nothing; the docstring has no part that begins with a line 'Deviates:'." in out
    assert "1 of " in out


def test_an_error_is_told_once(written, capsys):
    own_loss = ("    def forward", f"{LOSS.replace('output.prediction', 'output.predictions')}\n    def forward")
    code, out, _ = bench(capsys, "check-model", written(own_loss), "--text", "glove")
    assert code == 1
    assert out.count("AttributeError: 'Output' object has no attribute 'predictions'") == 1
    assert "FAIL  a batch of one trains [glove]: as above" in out


def test_where_forward_fails_nothing_else_is_tried(written, capsys):
    code, out, _ = bench(capsys, "check-model", written((MEANS, "1 / 0")), "--text", "glove")
    assert code == 1
    assert out.count("FAIL") == 1
    assert "note  the other checks [glove]: not made" in out
    assert "1 of 7 checks failed, 1 note above" in out


def test_a_modality_that_is_not_read_is_a_note(written, capsys):
    blind = "torch.cat(means, 1)", "torch.cat([*means[:2], 0 * means[2]], 1)"
    code, out, _ = bench(capsys, "check-model", written(blind), "--text", "glove")
    assert code == 0
    assert "note  text, audio and vision are read [glove]: no prediction depends on vision" in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere.py"], "nowhere.py: No such file or directory"),
        (["no_model"], "Unknown model 'no_model'"),
        (["tfn", "--text", "elmo"], "has no text front-end 'elmo'"),
    ],
)
def test_mistakes(capsys, arguments, said):
    code, out, err = bench(capsys, "check-model", *arguments)
    assert (code, out) == (2, "")
    assert said in err


def test_a_new_model_passes_and_overwrites_nothing(tmp_path, capsys):
    code, out, _ = bench(capsys, "new", "model", "ours", tmp_path)
    file = tmp_path / "ours.py"
    assert code == 0
    assert [path.name for path in tmp_path.iterdir()] == ["ours.py"]
    assert f"`bench check-model {file}`" in out
    assert ast.get_docstring(ast.parse(file.read_text())).startswith("ours: ")
    code, out, _ = bench(capsys, "check-model", file, "--text", "glove", "--text", "bert")
    assert code == 0, out
    before = file.read_text()
    code, _, err = bench(capsys, "new", "model", "ours", tmp_path)
    assert (code, file.read_text()) == (2, before)
    assert "is there already" in err


@pytest.mark.parametrize(
    ("name", "said"),
    [("tfn", "has a model tfn already"), ("3x", "cannot be called '3x'"), ("a/b", "cannot be called 'a/b'")],
)
def test_names_that_no_new_model_can_have(tmp_path, capsys, name, said):
    code, _, err = bench(capsys, "new", "model", name, tmp_path)
    assert code == 2
    assert said in err
    assert not list(tmp_path.iterdir())
