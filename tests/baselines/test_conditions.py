"""All rows train under the same conditions: one budget, and searches that try only what has an effect."""

import dataclasses

import pytest
import torch
from model_checks import corpus_of

from hycon.data.batch import form_of
from hycon.encoders import FRONT_END_SPACE, FrontEndConfig
from hycon.errors import UserError
from hycon.train import EPOCHS, PATIENCE, Training
from studies.authors.conformance import EMOTIONS
from studies.authors.effects import Outcome, check_effects
from studies.paper import paper_table
from studies.registry import MODELS, build_model, model_module, resolve, search_space, unread
from studies.tables import TABLES

PAPER = {"text": 768, "audio": 74, "vision": 47}
FORMS = [(name, text) for name, entry in MODELS.items() for text in entry.text]
PRINTED = {name: {row for _, row, _ in paper_table(name)} for name in TABLES}
PAPERS = {row.model for table in TABLES.values() for row in table.rows if row.name in PRINTED[table.name]}
ELSEWHERE = ("batch_size", "selection", "zero", "permuted")  # options of variants that other tests cover
TOKENS = [(name, text) for name, text in FORMS if text in ("bert", "xlnet")]


# ------------------------------------------------------------------------------------------------- budget


@pytest.mark.parametrize(("name", "text"), FORMS)
def test_every_row_has_the_budget_of_its_form(name, text):
    training = resolve(name, text, {})[1]
    assert training.epochs == EPOCHS[form_of(text)]
    assert training.patience == PATIENCE
    assert resolve(name, text, {"epochs": 7, "patience": 3})[1] == dataclasses.replace(training, epochs=7, patience=3)


def test_the_budget():
    assert EPOCHS == {"tokens": 50, "vectors": 100}
    assert PATIENCE == 20


def test_a_head_s_learning_rate_needs_an_encoder():
    assert resolve("hycon", "bert", {"head_lr": 1e-3})[1].head_lr == 1e-3
    with pytest.raises(UserError, match="text=glove has none: use lr"):
        resolve("hycon", "glove", {"head_lr": 1e-3})
    assert resolve("hycon", "bert", {"modalities": "text", "head_lr": 1e-3})[1].head_lr == 1e-3
    with pytest.raises(UserError, match="hycon so configured has none: use lr"):
        resolve("hycon", "bert", {"modalities": "audio,vision", "head_lr": 1e-3})


@pytest.mark.parametrize("name", MODELS)
def test_an_ablation_changes_no_training(name):
    training = {field.name for field in dataclasses.fields(Training)}
    for part, change in getattr(model_module(name), "ABLATIONS", {}).items():
        assert not training & set(change), part


# ----------------------------------------------------------------------------------------------- the sources


def rates_of(model, text, **overrides):
    """The groups of a model's optimiser: {their numbers: their parameters' names}."""
    with torch.device("meta"):
        net = build_model(model, text=text, dims=PAPER, **overrides)
    training = resolve(model, text, overrides)[1]
    names = {id(p): name for name, p in net.named_parameters()}
    groups = net.param_groups(training)
    assert sorted(names[id(p)] for g in groups for p in g["params"]) == sorted(names.values())
    return [({k: v for k, v in g.items() if k != "params"}, {names[id(p)] for p in g["params"]}) for g in groups]


def test_lmf_s_factors_may_have_a_learning_rate_of_their_own():
    factors = {f"net.fusion.factors.{m}" for m in ("text", "audio", "vision")}
    for text in ("glove", "bert"):
        (own, named), (rest, _) = rates_of("lmf", text, factor_lr=0.003)
        assert (own, rest) == ({"lr": 0.003}, {})
        assert named == factors
        assert [numbers for numbers, _ in rates_of("lmf", text)] == [{}, {}]
    with pytest.raises(UserError, match="factor_lr is -1"):
        resolve("lmf", "glove", {"factor_lr": -1.0})


def test_mag_s_adamw_and_hffn_s_rmsprop_are_their_libraries():
    assert [numbers for numbers, _ in rates_of("mag", "bert")] == [
        {"weight_decay": 0.01, "eps": 1e-6},
        {"weight_decay": 0.0, "eps": 1e-6},
    ]
    assert all("eps" not in numbers for numbers, _ in rates_of("mag", "bert", optimizer="adam"))
    assert rates_of("hffn", "glove")[0][0] == {"alpha": 0.9, "eps": 1e-7}
    assert rates_of("hffn", "glove", optimizer="adam")[0][0] == {}


# ------------------------------------------------------------------------------------------------- same search


@pytest.mark.parametrize(("name", "text"), [form for form in TOKENS if form[0] in PAPERS])
def test_rows_with_hycon_s_front_end_search_the_same_of_it(name, text):
    space = search_space(name, text, {})
    assert space["scale"] == FRONT_END_SPACE["scale"]
    if issubclass(model_module(name).Config, FrontEndConfig):
        assert {option: space[option] for option in FRONT_END_SPACE} == FRONT_END_SPACE
        assert (space["attn_dropout"], space["relu_dropout"]) == ((0.1, 0.3, 0.5), (0.1, 0.3))


def test_rows_over_word_vectors_search_the_same_clipping_and_scaling():
    """All that Gkoumas et al. search, and each row `scale`; docs/protocol.md says why others differ."""
    searched = ("tfn", "lmf", "mfn", "raven")
    assert {search_space(name, "glove", {})["clip"] for name in searched} == {(None, 0.1, 0.3, 0.5, 0.7, 0.9)}
    for name, entry in MODELS.items():
        if "glove" in entry.text and name in PAPERS:
            assert search_space(name, "glove", {})["scale"][:2] == ("none", "standard"), name


# ------------------------------------------------------------------------------------------------- effect


def rows():
    """Each row of each table, and each model without each part that it names."""
    found = {}
    for table in TABLES.values():
        corpus = "emotional" if table.task == "emotion" else "small"
        found |= {(row.model, row.text, corpus, repr(row.config)): dict(row.config) for row in table.rows}
    for name, text in FORMS:
        for change in getattr(model_module(name), "ABLATIONS", {}).values():
            if text in ("glove", "bert"):
                found[name, text, corpus_of(text), repr(change)] = change
    return [pytest.param(*key[:3], config, id=f"{key[0]}-{key[1]}-{key[3]}") for key, config in found.items()]


def test_text_alone_has_no_scale():
    space = search_space("hycon", "glove", {"modalities": "text"})
    assert "scale" not in space
    assert "attn_dropout" in space  # word vectors are read by a Transformer of the suite's


def scaled(corpus, text, batches):
    return lambda scale: batches(corpus, text, scale)


@pytest.mark.parametrize(("model", "text", "corpus", "config"), rows())
def test_every_searched_option_has_an_effect(model, text, corpus, config, batches):
    check_effects(model, text, scaled(corpus, text, batches), config, EMOTIONS if corpus == "emotional" else 0)


OF_FRONT_END = {"d": 20, "layers": 2, "attn_dropout": 0.9, "readout": "mean", "mask_padding": True}
OF_SUBNETS = {"text_hidden": 6, "audio_hidden": 6, "vision_hidden": 6}


@pytest.mark.parametrize(
    ("model", "text", "changes"),
    [
        ("tfn", "glove", {**OF_FRONT_END, "tensor_hidden": 6, "tensor_dropout": 0.9}),
        ("tfn", "bert", {**OF_SUBNETS, "text_out": 6, "dropout": 0.9, "fusion_hidden": 6, "output_range": False}),
        ("lmf", "glove", {**OF_FRONT_END, "token_rank": 2}),
        ("lmf", "bert", {**OF_SUBNETS, "rank": 2, "text_dropout": 0.9, "audio_dropout": 0.9, "vision_dropout": 0.9}),
        ("mult", "glove", {"token_d": 20, "token_layers": 1, "token_kernel": 5}),
        ("mult", "bert", {"layers": 1, "text_kernel": 3, "audio_kernel": 3, "vision_kernel": 3}),
    ],
)
def test_what_is_said_to_have_no_effect_has_none(model, text, changes, batches):
    small = dict(getattr(model_module(model), "DEMO", {}).get(form_of(text), {}))
    outcome = Outcome(model, text, small, scaled(corpus_of(text), text, batches))
    assert changes.keys() <= unread(model, text, small)
    assert outcome(**changes) == outcome()


VARIANTS = {
    f"{row.name}": row for table in TABLES.values() if table.task == "sentiment" for row in table.rows if row.intact
}


@pytest.mark.parametrize("row", VARIANTS.values(), ids=VARIANTS)
def test_every_variant_is_another_model_or_another_training(row, batches):
    """But for what its intact row may have by default; batch_size and selection, which `fit`'s own tests cover; zero,
    since the made-up labels are never 0 (tests/hycon/test_losses.py); and permuted, which is in the data
    (tests/hycon/data/test_permuted.py)."""
    intact = dict(row.intact.config)
    settings = {k: v for x in resolve(row.model, row.text, intact) for k, v in dataclasses.asdict(x).items()}
    changed = {k: v for k, v in row.config.items() if settings[k] != v and k not in ELSEWHERE}
    outcome = Outcome(row.model, row.text, intact, scaled("small", row.text, batches))
    stepping = bool(changed.keys() & {field.name for field in dataclasses.fields(Training)})
    assert not changed or outcome(stepping, **changed) != outcome(stepping)
