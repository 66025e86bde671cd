"""Where the suite's own data lie."""

import pytest

from hycon import host
from hycon.errors import UserError
from hycon.host import shipped


def test_shipped_data_is_in_the_wheel_or_else_in_the_checkout(tmp_path, monkeypatch):
    assert (shipped("paper") / "table1.csv").is_file()
    monkeypatch.setattr(host, "source_root", lambda: tmp_path)
    with pytest.raises(UserError, match=r"paper is neither at .* nor at .*: install the package again"):
        shipped("paper")
    for place in ("results/paper", "studies/_results/paper"):  # the installed one comes first
        (tmp_path / place).mkdir(parents=True)
        assert shipped("paper") == tmp_path / place
