"""`bench check-model`: all checks of a model, and what they found, in words."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hycon.errors import UserError
from hycon.model_file import place
from studies.authors import conformance, contract
from studies.authors.conformance import Nonconforming
from studies.registry import MODELS, model_module, path_of

OF_FILE: dict[str, Callable[[str], None]] = {  # what is checked, in words -> the check, of the file alone
    "the file defines what a model has": contract.check_parts,
    "VERSION is a whole number": contract.check_version,
    "the docstring cites its source and says where it deviates": contract.check_docstring,
    "the budget is the suite's": contract.check_budget,
    "ablations are described and can be made": contract.check_ablations,
}
OF_BATCH: dict[str, Callable[[str, str, Any], None]] = {  # of a small batch, with each text front-end
    "forward returns what it should": conformance.check_forward,
    "emotions: two logits each": conformance.check_emotions,
    "a finite loss, and a gradient in every parameter": conformance.check_gradients,
    "a loss of its own passes kind on": conformance.check_loss_kind,
    "a batch of one trains": conformance.check_batch_of_one,
    "an utterance's prediction is its own": conformance.check_own_prediction,
    "padding changes no prediction": conformance.check_padding,
    "eight utterances can be overfitted": conformance.check_overfits,
    "two trainings from one seed are equal": conformance.check_repeats,
}
SEARCHED = "the search space fits its options"
EFFECTS = "every searched option has an effect"
CODE = "mend the code there"


@dataclass(frozen=True)
class Finding:
    """Of one check. text: the front-end, "" for the file alone.  said: what is wrong; "" where nothing is.
    remedy: what to do."""

    check: str
    text: str = ""
    said: str = ""
    remedy: str = ""

    @property
    def passed(self) -> bool:
        return not self.said


def check_model(
    model: str, texts: Sequence[str] | None = None, on_finding: Callable[[Finding], Any] | None = None
) -> list[Finding]:
    """Check a model that this process knows, with each of `texts` (all that it takes). on_finding: called with each.

    Raises UserError for an unknown model or a front-end that it does not take, and where its file cannot be executed.
    """
    model_module(model)
    for text in texts or ():
        if text not in MODELS[model].text:
            raise UserError(f"Model {model} has no text front-end {text!r}; it has {', '.join(MODELS[model].text)}.")
    findings = []
    for finding in _findings(model, texts or MODELS[model].text):
        findings.append(finding)
        if on_finding:
            on_finding(finding)
    return findings


def _findings(model: str, texts: Sequence[str]) -> Iterator[Finding]:
    from studies.authors.effects import check_effects
    from studies.authors.made_up import MadeUp

    path = path_of(model)
    of_file = [_finding(path, check, "", function, model) for check, function in OF_FILE.items()]
    yield from of_file
    if not of_file[0].passed:
        return  # without its parts there is nothing to build
    with TemporaryDirectory(prefix="bench-check-") as folder:
        made_up = MadeUp(folder)
        for text in texts:
            train = made_up.splits(text)["train"]
            space = _finding(path, SEARCHED, text, contract.check_search_space, model, text)
            yield space
            for check, function in OF_BATCH.items():
                yield _finding(path, check, text, function, model, text, train)
            if space.passed:
                splits = _scaled(made_up, text)
                yield _finding(path, EFFECTS, text, check_effects, model, text, splits)


def _scaled(made_up: Any, text: str) -> Callable[[str], Any]:
    return lambda scale: made_up.splits(text, scale)


def _finding(path: str, check: str, text: str, function: Callable[..., None], *arguments: Any) -> Finding:
    try:
        function(*arguments)
    except UserError as error:
        return Finding(check, text, str(error).rstrip("."), "as the sentence says")
    except Nonconforming as error:
        return Finding(check, text, error.said, error.remedy)
    except Exception as error:  # of the model's code, whatever it does
        where = place(error, path)
        said = f"{type(error).__name__}: {error}"
        return Finding(check, text, f"{Path(path).name}{where.removeprefix(path)}: {said}" if where else said, CODE)
    return Finding(check, text)


def line(finding: Finding) -> str:
    """For the terminal: one line where it passed, and two more where it did not."""
    form = f" [{finding.text}]" if finding.text else ""
    if finding.passed:
        return f"ok    {finding.check}{form}"
    return f"FAIL  {finding.check}{form}\n        {finding.said}.\n        To mend it: {finding.remedy}."


def summary(model: str, findings: Sequence[Finding]) -> str:
    failed = sum(not finding.passed for finding in findings)
    if failed:
        return f"{path_of(model)}: {failed} of {len(findings)} checks failed."
    return f"{path_of(model)}: all {len(findings)} checks passed."
