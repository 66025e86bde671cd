"""Which pretrained encoders stand behind the front-end `bert`, and what is known of how each reads its input.

The front-end is named after the paper's encoder; any encoder of the library transformers that reads [CLS] w.. [SEP]
with padding on the right can stand behind it. FAMILIES holds those that are read without padding
(hycon/text.py); every other one is read with padding, with the same numbers, only more slowly.

What was read in the models' sources (transformers 5), and is tested on tiny random models against the padded form:

    absolute positions      BERT, ELECTRA, DistilBERT: a step counts from 0, a [PAD] as any other step
    offset                  RoBERTa and kin: a step counts from the [PAD] id + 1, and each [PAD] has the [PAD] id
    relative                MPNet, DeBERTa: attention depends on distances, so a state at a [PAD] needs the padded
                            sentence; states at real tokens do not
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Family:
    """layers: where the model keeps its layers, as an attribute's path.  attention: the kernel, transformers' choice;
    a config.json could ask for another.  pooler: whether it can have BERT's pooler, which MAG reads.  rows: whether its
    layers are made of BERT's parts, which a CPU runs over rows without padding (hycon/text_rows.py)."""

    layers: str = "encoder.layer"
    attention: str = "sdpa"
    offset: bool = False
    relative: bool = False
    pooler: bool = False
    rows: bool = False


FAMILIES = {  # transformers' model_type -> what is known of it
    "bert": Family(pooler=True, rows=True),
    "electra": Family(rows=True),
    "distilbert": Family(layers="transformer.layer"),
    "roberta": Family(offset=True, pooler=True, rows=True),
    "xlm-roberta": Family(offset=True, pooler=True, rows=True),
    "camembert": Family(offset=True, pooler=True, rows=True),
    "mpnet": Family(attention="eager", offset=True, relative=True, pooler=True),
    "deberta": Family(attention="eager", relative=True),
    "deberta-v2": Family(attention="eager", relative=True),
    "xlnet": Family(layers="layer", attention="eager"),
}
OTHER = Family(attention="eager", relative=True)  # layers unused: nothing is known of how it lies inside


def family_of(model_type: str) -> Family:
    return FAMILIES.get(model_type, OTHER)
