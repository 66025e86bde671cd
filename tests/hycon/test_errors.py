"""The names that a message offers."""

from hycon.errors import nearest


def test_the_nearest_of_many():
    tables = [f"table{number}" for number in range(1, 9)]
    assert nearest("tabel3", tables).split(", ")[0] == "table3"
    assert nearest("3", tables) == "table3"
    assert nearest("x", ["b", "a"]) == "a, b"
    assert nearest("x", []) == "none"


def test_names_that_hold_the_word_come_first():
    claims = ["iemocap-v2", "ablation-iamcl-iemcl", "margin-best"]
    assert nearest("iemcl", claims) == "ablation-iamcl-iemcl, iemocap-v2"
    assert nearest("IEMCL", claims).startswith("ablation-iamcl-iemcl")


def test_where_none_is_near_a_few_are_named():
    offered = nearest("x", [f"run{number:04}" for number in range(5000)])
    assert offered.startswith("run0000, run0001")
    assert offered.endswith("run0019 and 4980 more")
