"""How many kernels a training step launches on a GPU, counted without one (launches.py), and what it waits for."""

import sys
from importlib.metadata import version
from pathlib import Path

import pytest

sys.path.insert(
    0, str(Path(__file__).parents[2] / "benchmarks")
)  # scripts, not a package: real sizes are made up there
from launches import step_launches

from studies.tables import TABLES

# A number that has fallen is written down here; none rises. The rows of Table 1, those of Table 3 that it lacks, and
# the successors in the table `beyond`.
LAUNCHES = {
    "EF-LSTM-GloVe": 279,
    "EF-LSTM-BERT": 769,
    "LF-LSTM-GloVe": 783,
    "LF-LSTM-BERT": 1275,
    "TFN-GloVe": 365,
    "TFN-BERT": 787,
    "LMF-GloVe": 363,
    "LMF-BERT": 794,
    "MFN-GloVe": 849,
    "MFN-BERT": 1345,
    "MULT-GloVe": 897,
    "MULT-BERT": 1215,
    "QMF-GloVe": 508,
    "GFN-BERT": 975,
    "ICCN-BERT": 718,
    "RAVEN-GloVe": 368,
    "MAG-BERT": 597,
    "MAG-XLNet": 1382,
    "HyCon-BERT": 878,
    "HyCon-XLNet": 1675,
    "HyCon-v2-BERT": 910,
    "HyCon-v2-XLNet": 1707,
    "Graph-MFN": 1110,
    "HFFN": 2592,
    "TCM-LSTM": 2076,
    "HyCon": 387,
    "HyCon-v2": 419,
    "MISA": 3080,
    "Self-MM": 1289,
    "MMIM": 1546,
    "TETFN": 4085,
    "ALMT": 1097,
}
COUNTED_WITH = {"torch": "2.13", "transformers": "5.23"}  # the libraries' own parts change from one to the next
# What only CUDA's own decompositions wait for: PyTorch reads whether they have converged (its documentation of
# torch.linalg.eigh and svd). On fewer utterances than twice the correlated width, as in test_pretended_gpu.py, none.
WAITS = {"iccn": ["aten::_linalg_eigh", "aten::_linalg_eigh", "aten::_linalg_svd"]}
ROWS = {row.name: row for table in ("table1", "table3", "beyond") for row in TABLES[table].rows}


@pytest.mark.parametrize("name", LAUNCHES)
def test_launches_and_waits_of_a_step(name):
    found, row = {k: ".".join(version(k).split("+")[0].split(".")[:2]) for k in COUNTED_WITH}, ROWS[name]
    if found != COUNTED_WITH:
        pytest.skip(f"counted with {COUNTED_WITH}, here is {found}")
    gpu = step_launches(row.model, row.text, **dict(row.config))
    assert [what for what, _ in gpu.waits] == WAITS.get(row.model, [])
    assert gpu.uploads == []
    assert gpu.launches == LAUNCHES[name]


def test_every_row_of_table_1_has_a_budget():
    assert {row.name for row in TABLES["table1"].rows} <= set(LAUNCHES)


def test_selecting_pairs_costs_few_launches():
    assert LAUNCHES["HyCon-v2-BERT"] - LAUNCHES["HyCon-BERT"] <= 40
