"""The options of a model and its training: their names, values that are checked, and those that a search draws from."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any

from hycon.errors import UserError, nearest
from studies.registry.models import MODELS, model_module

if TYPE_CHECKING:
    from hycon.train import Training

WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a word"}


def option_names(name: str) -> list[str]:
    """The options of a model, and then those of its training."""
    from hycon.train import Training

    return [field.name for kind in (model_module(name).Config, Training) for field in dataclasses.fields(kind)]


def resolve(name: str, text: str, overrides: Mapping[str, Any]) -> tuple[Any, Training]:
    """(Config, Training) of a model with `overrides`, each of which must be a field of one of the two. Epochs are those
    of the form, hycon.train.EPOCHS.

    Raises UserError for an unknown option (nearest names listed), a front-end that the model does not have, or a value
    of the wrong type.
    """
    from hycon.data.batch import form_of
    from hycon.train import EPOCHS

    module = model_module(name)
    form = form_of(text)
    if text not in MODELS[name].text:
        raise UserError(f"Model {name} has no text front-end {text!r}; it has {', '.join(MODELS[name].text)}.")
    config, training = module.Config(), dataclasses.replace(module.TRAINING[form], epochs=EPOCHS[form])
    own, trained = ({f.name for f in dataclasses.fields(x)} for x in (config, training))
    for key in overrides:
        if key not in own | trained:
            raise UserError(f"Model {name} has no option {key!r}; nearest: {nearest(key, own | trained)}.")
    if overrides.get("head_lr") is not None and form == "vectors":
        raise UserError(f"head_lr is for layers beside a pretrained encoder; text={text} has none: use lr.")
    config = _replace(config, {k: v for k, v in overrides.items() if k in own})
    if overrides.get("head_lr") is not None and "head_lr" in _unread(module, config, form):
        raise UserError(f"head_lr is for layers beside a pretrained encoder; {name} so configured has none: use lr.")
    training = _replace(training, {k: v for k, v in overrides.items() if k in trained})
    if training.permuted and getattr(module, "NEEDS_ALIGNED", False):
        raise UserError(f"{name} reads audio and vision word by word, and permuted ones belong to other words.")
    return config, training


def unread(name: str, text: str, overrides: Mapping[str, Any]) -> set[str]:
    """The options that nothing reads under `overrides`, as far as the model's file says so: in a function
    `without_effect(config, form)`. Raises UserError as `resolve`."""
    from hycon.data.batch import form_of

    return _unread(model_module(name), resolve(name, text, overrides)[0], form_of(text))


def search_space(name: str, text: str, overrides: Mapping[str, Any]) -> dict[str, tuple[Any, ...]]:
    """The model's SEARCH_SPACE for the front-end, without what `overrides` fixes and without the options that nothing
    reads under `overrides` (`unread`)."""
    from hycon.data.batch import form_of

    module, form = model_module(name), form_of(text)
    dropped = set(overrides) | unread(name, text, overrides)
    return {k: tuple(v) for k, v in module.SEARCH_SPACE[form].items() if k not in dropped}


def _unread(module: ModuleType, config: Any, form: str) -> set[str]:
    return module.without_effect(config, form) if hasattr(module, "without_effect") else set()


def _replace(config: Any, changes: Mapping[str, Any]) -> Any:
    kinds = typing.get_type_hints(type(config))
    for key, value in changes.items():
        _check_range(key, value, getattr(config, key))
        allowed = typing.get_args(kinds[key]) or (kinds[key],)  # `float | None` or `float`
        if type(value) not in allowed and not (type(value) is int and float in allowed):
            names = " or ".join("None" if kind is type(None) else WORDS[kind] for kind in allowed)
            raise UserError(f"Option {key} is {value!r}; expected {names}, such as {getattr(config, key)!r}.")
        if type(value) is int and int not in allowed:
            changes = {**changes, key: float(value)}  # 1 and 1.0 are one run, with one id
    return dataclasses.replace(config, **changes)


def _check_range(key: str, value: Any, default: Any) -> None:
    """What no model can mean: a size below 1, a dropout that is no probability."""
    if "dropout" in key and isinstance(value, float | int) and not 0 <= value <= 1:
        raise UserError(f"Option {key} is {value!r}; expected a probability, from 0 to 1.")
    if type(value) is int and type(default) is int and value < min(1, default):
        raise UserError(f"Option {key} is {value!r}; expected at least {min(1, default)}.")
