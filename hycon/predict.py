"""A trained model, from its folder to predictions: `hycon.load_model(folder)(utterances)`."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import numpy as np
import torch
from torch import nn

from hycon.data.batch import form_of
from hycon.data.corpus import Corpus, Split
from hycon.data.importers.word_vectors import spellings
from hycon.data.manifest import MODALITIES
from hycon.data.prepare import Inputs, WordPieces, batching, inputs_of, permuted_modalities, whole_batch
from hycon.errors import UserError
from hycon.given import as_split
from hycon.metrics import NARROW, WIDE
from hycon.pretrained import DEMO, Shell, load_tokenizer, missing_because, shell
from hycon.saved import ENCODER, WEIGHTS, Description, load_weights, read_description, read_inputs, weights_digest
from hycon.train import predict

# Which class has a name is known to the layer above, which is not imported before a model is loaded.
BUILDER = "studies.trust.rebuild:build"


@dataclass(frozen=True)
class Predictor:
    """A model in evaluation mode, with all that turns utterances into its input. device: where it computes."""

    description: Description
    model: nn.Module
    inputs: Inputs
    tokenizer: WordPieces | None = None
    device: str = "cpu"

    @property
    def emotions(self) -> list[str]:
        """Their names, in the order of the predictions; empty for sentiment."""
        return list(self.description.emotions)

    @property
    def label_bound(self) -> float:
        """Predictions of sentiment are on the scale of training labels, which lay in [-bound, bound]: 3 or 1."""
        return NARROW if max(map(abs, self.description.labels)) <= NARROW else WIDE

    @property
    def permuted(self) -> list[str]:
        """The modalities that the model was trained on with those of other utterances. Predictions never permute."""
        return list(permuted_modalities(str(self.description.spec["training"].get("permuted", ""))))

    def __call__(self, utterances: Sequence[Any], *, missing: str = "refuse") -> np.ndarray:
        """(N,) sentiment, or (N, E, 2) logits of no and yes for each emotion.

        utterances: mappings or `hycon.data.Utterance`, see hycon.given.as_split; a sentence of words is enough for a
        model of text alone.  missing: "zeros" lets rows of zeros (after scaling) stand for a modality that is read but
        not given; the default refuses.
        Raises UserError naming the first utterance that cannot be read.
        """
        fill = {m: np.zeros(self.description.dims[m], np.float32) for m in self.description.dims}
        fill |= {m: shift.numpy() for m, (shift, _) in self.inputs.scalers.items()}
        split = as_split(utterances, self.description, fill, missing)
        if self._vocabulary is not None:
            split = dataclasses.replace(split, words=[[self._known(w) for w in words] for words in split.words or []])
        return self.of_split(split)

    def of_corpus(self, corpus: Corpus, split: str) -> np.ndarray:
        """The same of a split of a corpus: of the run's own test split, the run's own bits on the same kind of machine
        with the same number of threads, unless the run permuted modalities (`permuted`): here an utterance is read with
        its own. Labels of another range are no obstacle. Raises UserError where the corpus cannot serve the model."""
        its = inputs_of(corpus, self.inputs.text)
        for modality in MODALITIES if its.own else ("audio", "vision"):
            width, wanted = corpus.manifest.dims.get(modality), self.description.dims[modality]
            if width != wanted:
                self._refuse(corpus, f"{width} features per row of {modality}", str(wanted))
        if its.own != self.inputs.own:
            self._refuse(corpus, "no text of that kind", "vectors of its own" if self.inputs.own else "words")
        if its.layout.aligned != self.inputs.layout.aligned:
            kinds = {True: "word-aligned utterances", False: "utterances that are not aligned"}
            self._refuse(corpus, kinds[its.layout.aligned], kinds[self.inputs.layout.aligned])
        if list(corpus.manifest.emotions or ()) != self.emotions:
            self._refuse(corpus, "labels of another kind", ", ".join(self.emotions) or "sentiment")
        return self.of_split(corpus.splits[split])

    def _refuse(self, corpus: Corpus, found: str, wanted: str) -> None:
        raise UserError(f"Corpus {corpus.name!r} has {found}; the model was trained on {wanted}.")

    def of_split(self, split: Split) -> np.ndarray:
        """The same of utterances as a corpus holds them."""
        task = "emotion" if self.description.emotions else "sentiment"
        batch = whole_batch(split, batching(self.inputs, self.tokenizer), task, self.device)
        precision = str(self.description.spec["training"].get("precision", "fp32"))
        return predict(self.model, batch, precision).cpu().numpy()

    def unknown(self, utterances: Sequence[Any]) -> list[str]:
        """The words that the model has no vector for, each once; always empty with word pieces."""
        if self._vocabulary is None:
            return []
        words = {word for u in utterances for word in _words(u)}
        return sorted(word for word in words if self._known(word) not in self._vocabulary)

    def with_vectors(self, words: Sequence[str], matrix: np.ndarray) -> Predictor:
        """With vectors for further words, those of the training data's own file. matrix: (V, d) float32."""
        if self.inputs.vectors is None:
            raise UserError("The model does not read word vectors: leave --text-vectors out.")
        known = self.inputs.vectors
        if matrix.shape[1] != known["matrix"].shape[1]:
            width = known["matrix"].shape[1]
            raise UserError(f"The word vectors have {matrix.shape[1]} dimensions; the model was trained on {width}.")
        vectors = {
            "words": [*known["words"], *words],
            "matrix": torch.cat([known["matrix"], torch.from_numpy(matrix.astype(np.float32))]),
        }
        return dataclasses.replace(self, inputs=dataclasses.replace(self.inputs, vectors=vectors))

    @cached_property
    def _vocabulary(self) -> Mapping[str, int] | None:
        vectors = self.inputs.vectors
        return None if vectors is None else {word: i for i, word in enumerate(vectors["words"])}

    def _known(self, word: str) -> str:
        """The spelling of a word that has a vector, looked for as at import; the word itself where none has."""
        assert self._vocabulary is not None
        return next((spelling for _, spelling in spellings(word) if spelling in self._vocabulary), word)


def load_model(folder: str | os.PathLike, *, device: str = "cpu") -> Predictor:
    """The trained model in a folder of `bench train`. Nothing that is in the folder is run.

    Raises UserError where it is no such folder, damaged or changed, or of another version of the model than this one.
    """
    folder = Path(folder)
    description = read_description(folder)
    spec = description.spec
    encoder = _encoder(folder, description)
    try:
        emotions, build = len(description.emotions), resolve_name(BUILDER)
        model = build(spec, dims=description.dims, emotions=emotions, encoder=encoder, run=description.run)
        tokenizer = load_tokenizer(spec["text"], encoder) if encoder else None
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{folder} is damaged ({error}): train the model again.") from error
    _fill(model, folder, description)
    return Predictor(description, model.to(device).eval(), read_inputs(folder, description), tokenizer, device)


def _encoder(folder: Path, description: Description) -> dict[str, str] | Shell | None:
    text, named = str(description.spec.get("text")), description.spec.get("encoder")
    if form_of(text) != "tokens" or not isinstance(named, dict):
        return None
    if named.get("name") == DEMO:
        if reason := missing_because(text, named):
            raise UserError(f"{folder} cannot be used: {reason}.")
        return named
    return shell(folder / ENCODER)


def _fill(model: nn.Module, folder: Path, description: Description) -> None:
    """Give the model its weights. Raises UserError where they are not its own."""
    tensors, own = load_weights(folder / WEIGHTS), model.state_dict()
    odd = sorted(own.keys() ^ tensors.keys())
    odd += [n for n in own if n in tensors and (own[n].shape, own[n].dtype) != (tensors[n].shape, tensors[n].dtype)]
    if odd:
        raise UserError(f"{folder / WEIGHTS} does not fit the model that it is said to be of, first in {odd[0]}.")
    if weights_digest(tensors) != description.weights_sha256:
        raise UserError(f"{folder / WEIGHTS} does not hold the weights that it is said to hold.")
    model.load_state_dict(tensors)


def _words(utterance: Any) -> list[str]:
    get = utterance.get if isinstance(utterance, Mapping) else lambda name: getattr(utterance, name, None)
    words, text = get("words"), get("text")
    return [str(w) for w in words] if words is not None else text.split() if isinstance(text, str) else []
