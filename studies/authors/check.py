"""`bench check-model`: all checks of a model, and what they found, in words."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hycon.errors import UserError
from hycon.model_file import place
from studies.authors import conformance, contract, reading
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
    "forward does not read the label": reading.check_label,
    "emotions: two logits each": conformance.check_emotions,
    "a finite loss, and a gradient in every parameter": conformance.check_gradients,
    "a loss of its own passes kind on": conformance.check_loss_kind,
    "a batch of one trains": conformance.check_batch_of_one,
    "an utterance's prediction is its own": conformance.check_own_prediction,
    "padding changes no prediction": conformance.check_padding,
    "eight utterances can be overfitted": conformance.check_overfits,
    "two trainings from one seed are equal": conformance.check_repeats,
}
FIRST = tuple(OF_BATCH)[:2]  # without these the others say nothing
SEARCHED = "the search space fits its options"
EFFECTS = "every searched option has an effect"
READS = "text, audio and vision are read"


@dataclass(frozen=True)
class Finding:
    """Of one check. text: the front-end, "" for the file alone.  said: what is wrong; "" where nothing is.
    remedy: what to do; "" for an error of the code, which names its line.  as_above: the same was said before.
    note: what is to be known, and no mistake by itself."""

    check: str
    text: str = ""
    said: str = ""
    remedy: str = ""
    as_above: bool = False
    note: str = ""

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
    findings: list[Finding] = []
    said: set[str] = set()
    for finding in _findings(model, texts or MODELS[model].text):
        finding = replace(finding, as_above=finding.said in said)
        said |= {finding.said} - {""}
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
                found = _finding(path, check, text, function, model, text, deepcopy(train))  # forward may change it
                yield found
                if check in FIRST and not found.passed:
                    yield Finding("the other checks", text, note="not made, since forward comes first")
                    break
            else:
                yield _reads(model, text, train)
                if space.passed:
                    yield _finding(path, EFFECTS, text, check_effects, model, text, partial(made_up.splits, text))


def _reads(model: str, text: str, batch: Any) -> Finding:
    try:
        unread = " and ".join(reading.unread(model, text, batch))
    except Exception:  # other checks say what of the code fails
        return Finding(READS, text, note="could not be seen")
    return Finding(READS, text, note=unread and f"no prediction depends on {unread}: right if it is meant so")


def _finding(path: str, check: str, text: str, function: Callable[..., None], *arguments: Any) -> Finding:
    try:
        function(*arguments)
    except UserError as error:
        return Finding(check, text, str(error).rstrip("."))
    except Nonconforming as error:
        return Finding(check, text, error.said, error.remedy)
    except Exception as error:  # of the model's code, whatever it does
        where = place(error, path)
        said = f"{type(error).__name__}: {error}"
        return Finding(check, text, f"{Path(path).name}{where.removeprefix(path)}: {said}" if where else said)
    return Finding(check, text)


def line(finding: Finding) -> str:
    """For the terminal: one line where it passed, and two more where something new is wrong."""
    what = finding.check + (f" [{finding.text}]" if finding.text else "")
    if finding.note:
        return f"note  {what}: {finding.note}"
    if finding.passed:
        return f"ok    {what}"
    if finding.as_above:
        return f"FAIL  {what}: as above"
    remedy = f"\n        To mend it: {finding.remedy}." if finding.remedy else ""
    return f"FAIL  {what}\n        {finding.said.rstrip('.')}.{remedy}"


def summary(model: str, findings: Sequence[Finding]) -> str:
    failed, noted = sum(not finding.passed for finding in findings), sum(bool(finding.note) for finding in findings)
    checked = len(findings) - noted
    notes = f", {noted} note{'s' * (noted > 1)} above" if noted else ""
    if failed:
        return f"{path_of(model)}: {failed} of {checked} checks failed{notes}."
    return f"{path_of(model)}: all {checked} checks passed{notes}."
