"""What tests of studies are given: manifests, settings."""

import dataclasses

from hycon.data.manifest import Manifest, read_manifest
from hycon.pretrained import identify
from studies.lookup import Profile
from studies.registry import model_module, resolve
from studies.search.run import Setting
from studies.store.record import RunSpec

ENCODER = {"name": "demo", "sha256": "e" * 64}


def manifest(content="0"):
    one = dict.fromkeys(("text", "audio", "vision"), 1)
    return Manifest("mosi", "sentiment", {}, {}, one, one, "word", {}, {"corpus.safetensors": content * 64})


def setting(trials=4, seeds=3, content="0", most_epochs=None, **options):
    profile = Profile("paper", trials, seeds, epochs=most_epochs)
    return Setting(manifest(content), profile, {"bert": ENCODER}, options=options)


def run_spec(root, model="tfn", text="glove", corpus="small", *, seed=1, **overrides):
    """The spec of a run that can be trained, on a corpus of conftest's."""
    overrides = {"epochs": 2, "batch_size": 16, **overrides}
    config, training = resolve(model, text, overrides)
    return RunSpec(
        model=model,
        version=model_module(model).VERSION,
        text=text,
        corpus=corpus,
        data=read_manifest(corpus, root).sha256,
        config=dataclasses.asdict(config),
        training=dataclasses.asdict(training),
        seed=seed,
        encoder=identify(text, "demo") if text in ("bert", "xlnet") else None,
    )
