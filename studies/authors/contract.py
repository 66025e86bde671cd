"""What a model's file must say beside its code: a source, a version, options whose values fit, and no budget."""

from __future__ import annotations

import ast
import dataclasses
import inspect
from collections.abc import Iterator

from hycon.data.batch import form_of
from hycon.errors import UserError
from hycon.model_file import FORMS, PARTS
from hycon.train import Training
from studies.authors.conformance import Nonconforming, expect
from studies.authors.docstring import CITED, parse
from studies.registry import MODELS, literal, model_module, resolve, source_tree

BUDGET = ("epochs", "patience")  # the same for all models, in hycon/train.py


def check_docstring(model: str) -> None:
    """A citation, and a part "Deviates". What is missing of them is said at once."""
    docstring = ast.get_docstring(source_tree(model)) or ""
    faults = [
        (not docstring, "the file has no docstring", "say what the model is, what goes in and what comes out"),
        (
            not CITED.search(docstring),
            "the docstring cites nothing",
            'name authors, venue and year, or say "unpublished"',
        ),
        (
            parse(docstring) is None,
            "the docstring has no part that begins with a line 'Deviates:'",
            "list where the code departs from its source, 1., 2. and so on, or write 'Deviates: none known.'",
        ),
    ]
    found = [(said, remedy) for wrong, said, remedy in faults if wrong]
    expect(not found, "; ".join(said for said, _ in found), "; ".join(remedy for _, remedy in found))


def check_version(model: str) -> None:
    """VERSION is a whole number, and what commands read without executing the file is written out."""
    for name in ("NAME", "DEMO", "ABLATIONS", "REMOVED"):
        literal(model, name)
    version = literal(model, "VERSION")
    expect(
        type(version) is int and version >= 1,
        f"VERSION is {version!r}",
        "write VERSION = 1 at the top level, and raise it with any change that moves the numbers",
    )


def check_parts(model: str) -> None:
    """PARTS are there, Config is a frozen dataclass with defaults, TRAINING has the forms that the model takes."""
    module = model_module(model)
    lacking = [part for part in PARTS if not hasattr(module, part)]
    expect(not lacking, f"the file defines no {' and no '.join(lacking)}", "docs/adding-a-model.md says what they are")
    config = module.Config
    frozen = dataclasses.is_dataclass(config) and config.__dataclass_params__.frozen  # type: ignore
    expect(frozen, "Config is no frozen dataclass", "write @dataclass(frozen=True) above it")
    required = [
        f.name
        for f in dataclasses.fields(config)
        if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    ]
    expect(not required, f"Config has no default for {', '.join(required)}", "give each option its source's value")
    _check_called(module.Model, "__init__", ("config", "dims", "text", "emotions"))
    _check_called(module.Model, "forward", ("batch",))
    forms = {form_of(text) for text in MODELS[model].text}
    for name in ("TRAINING", "SEARCH_SPACE"):
        found = set(getattr(module, name))
        expect(
            forms <= found <= set(FORMS),
            f"{name} has the keys {', '.join(sorted(found)) or 'none'}",
            f"expected {' and '.join(sorted(forms))}: vectors for glove and features, tokens for bert and xlnet",
        )


def _check_called(model: type, method: str, given: tuple[str, ...]) -> None:
    parameters = ", ".join(("self", *given))
    try:
        inspect.signature(getattr(model, method)).bind("self", *given)
    except TypeError as error:
        said = f"Model.{method} does not take ({parameters}): {error}"
        raise Nonconforming(said, f"write def {method}({parameters}), with these names") from error


def check_budget(model: str) -> None:
    """Epochs and patience are the suite's, the same for all models: the file states neither."""
    stated = sorted({name or "**options" for name in _trained(source_tree(model)) if name in (*BUDGET, None)})
    searched = sorted(set(BUDGET) & {option for space in model_module(model).SEARCH_SPACE.values() for option in space})
    expect(
        not stated and not searched,
        f"the file sets {' and '.join(stated or searched)}",
        "leave it out: all models have one budget (hycon/train.py), which --epochs and --patience change for a command",
    )


def _trained(tree: ast.Module) -> Iterator[str | None]:
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    for call in calls:
        if getattr(call.func, "id", None) == "Training":
            yield from (keyword.arg for keyword in call.keywords)


def check_search_space(model: str, text: str) -> None:
    """Every option of the search is a field of Config or Training, and takes each of its values."""
    space = model_module(model).SEARCH_SPACE[form_of(text)]
    known = {field.name for kind in (model_module(model).Config, Training) for field in dataclasses.fields(kind)}
    for option, values in space.items():
        expect(
            option in known,
            f"SEARCH_SPACE searches {option}, which is no option",
            "name a field of Config or of hycon.train.Training",
        )
        expect(
            isinstance(values, tuple | list) and len(values) > 1 and len(set(values)) == len(values),
            f"SEARCH_SPACE gives {option} the values {values!r}",
            "expected a tuple of at least two different ones",
        )
        for value in values:
            try:
                resolve(model, text, {option: value})
            except UserError as error:
                expect(False, str(error).rstrip("."), f"mend SEARCH_SPACE, or the type of {option} in Config")


def check_ablations(model: str) -> None:
    """Each ablation has words for what it removes, and overrides fields of Config."""
    module = model_module(model)
    ablations, removed = getattr(module, "ABLATIONS", {}), getattr(module, "REMOVED", {})
    expect(
        set(ablations) == set(removed),
        f"ABLATIONS and REMOVED differ in {', '.join(sorted(set(ablations) ^ set(removed)))}",
        "REMOVED says in words what each ablation takes away",
    )
    fields = {field.name for field in dataclasses.fields(module.Config)}
    for name, changes in ablations.items():
        other = sorted(set(changes) - fields)
        expect(not other, f"ablation {name} changes {', '.join(other)}", "override fields of Config, and nothing else")
        try:
            resolve(model, MODELS[model].text[0], changes)
        except UserError as error:
            expect(False, f"ablation {name}: {str(error).rstrip('.')}", "give the option a value of its type")
