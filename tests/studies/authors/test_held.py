"""What a model outside the repository is held to while it runs: the shape of what it predicts, no look at labels."""

from dataclasses import replace

import pytest
import torch
from commands import bench, places

from hycon.errors import UserError
from hycon.train import Training, evaluate, fit, seed_everything
from studies.authors import conformance
from studies.authors.made_up import MadeUp
from studies.authors.rows import known_model
from studies.registry import model_module

HEAD = "as_prediction(self.head(torch.cat(means, 1)), self.emotions)"
MEANS = "means = [sequences.mean() for sequences in (batch.text, batch.audio, batch.vision)]"
LEAKED = "means[0] = means[0] + batch.label.view(len(batch), -1).float().mean(1, keepdim=True)"
RUN = ["--profile", "demo", "--trials", "1", "--seeds", "1", "--epochs", "1", "--quiet"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ((HEAD, "self.head(torch.cat(means, 1))"), "has shape (32, 1), not (32,)"),
        ((f"Output({HEAD})", HEAD), "forward returns a Tensor, not a hycon.output.Output"),
        ((MEANS, f"{MEANS}\n        {LEAKED}"), "forward reads batch.label, which a prediction may not rest on"),
    ],
)
def test_a_run_fails_in_words(written, tmp_path, capsys, change, said):
    file = written(change)
    code, _, err = bench(capsys, "run", "--model", file, *RUN, *places(tmp_path))
    assert code == 1
    assert f"{file}: " in err
    assert said in err


@pytest.mark.parametrize("emotions", [0, 4])
def test_the_label_cannot_be_used_by_a_comparison_either(written, tmp_path, emotions):
    """NaN is neither above nor below: a model that looks at the sign learns nothing of it."""
    peeked = "means[0] = means[0] + (batch.label.view(len(batch), -1)[:, :1] > 0)"
    model = known_model(str(written((MEANS, f"{MEANS}\n        {peeked}"))))
    batch = MadeUp(tmp_path).splits("glove")["test"]
    net = conformance.build(model, "glove", batch, emotions=emotions)
    shown = evaluate(net, batch)[0]
    hidden = net.forward(replace(batch, label=torch.full_like(batch.label, -1))).prediction
    torch.testing.assert_close(shown, hidden)


def test_it_moves_no_bit_of_a_model_that_does_what_it_must(written, tmp_path):
    model = known_model(str(written()))
    train = MadeUp(tmp_path).splits("glove")["train"]
    dims = {m: getattr(train, m).rows.shape[-1] for m in ("text", "audio", "vision")}
    module, outcomes = model_module(model), []
    for make in (lambda: conformance.build(model, "glove", train), lambda: module.Model(module.Config(), dims)):
        seed_everything(0)
        torch.manual_seed(0)
        net = make()
        fit(net, train, train, Training(lr=1e-2, batch_size=8, epochs=2), seed=0)
        outcomes.append([*net.parameters(), evaluate(net, train)[0]])
    assert all(torch.equal(a, b) for a, b in zip(*outcomes, strict=True))


def test_a_file_that_ends_the_program_is_said(written):
    file = written(("VERSION = 1", "VERSION = 1\nraise SystemExit(0)"))
    with pytest.raises(UserError, match=rf"{file}, line \d+: the file ends the program"):
        model_module(known_model(str(file)))
