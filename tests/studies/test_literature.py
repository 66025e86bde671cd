"""Published numbers as data."""

import re

import pytest

from hycon.errors import UserError
from studies.claims import claims_file, load_claims
from studies.claims.kinds import contests
from studies.literature import quotations
from studies.tables import TABLES


def test_every_number_has_a_source_and_stands_once_in_its_lineage():
    found = quotations()
    assert {q.dataset for q in found} == {"mosi", "mosei"}
    keys = [(q.model, q.dataset, q.metric, q.lineage) for q in found]
    assert len(set(keys)) == len(keys)
    assert all(q.source for q in found)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("mae", "mea", "line 2: metric 'mea' is none of mae, "),
        ("0.783", "x", "line 2: could not convert string to float: 'x'"),
        ("0.783,,", "0.783,x,", "line 2: could not convert string to float: 'x'"),
        ("0.783", "nan", "line 2: value is nan"),
        ("0.783,,", "0.783,inf,", "line 2: spread is inf"),
        ("authors,", ",", "line 2: it has no lineage"),
        (",paper", ",", "line 2: it has no source"),
        ("model,", "modal,", "line 1: expected model,dataset,"),
    ],
)
def test_damage_is_named(old, new, said, tmp_path):
    head = "model,dataset,metric,value,spread,protocol,lineage,source\n"
    (tmp_path / "a.csv").write_text((head + "MISA,mosi,mae,0.783,,mmsa,authors,paper\n").replace(old, new))
    with pytest.raises(UserError, match=re.escape(f"a.csv, {said}") + ".*restore the file"):
        quotations(tmp_path)


def test_our_claims_are_about_the_table_beyond_and_ask_of_every_row():
    claims = load_claims(claims_file("beyond"))
    assert {table for c in claims for table in c.tables} == {"beyond"}
    asked = {side.row for c in claims for contest in contests(c) for side in contest.sides}
    assert asked == {row.name for row in TABLES["beyond"].rows}
