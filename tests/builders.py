"""What tests of studies are given: manifests, settings."""

from hycon.data.manifest import Manifest
from studies.lookup import Profile
from studies.search.plan import Setting

ENCODER = {"name": "demo", "sha256": "e" * 64}


def manifest(content="0"):
    one = dict.fromkeys(("text", "audio", "vision"), 1)
    return Manifest("mosi", "sentiment", {}, {}, one, one, "word", {}, {"corpus.safetensors": content * 64})


def setting(trials=4, seeds=3, content="0", most_epochs=None, **options):
    profile = Profile("paper", trials, seeds, epochs=most_epochs)
    return Setting(manifest(content), profile, {"bert": ENCODER}, options=options)
