"""What takes long says so on a terminal, and nothing else does."""

import io
import threading
import time

import pytest

from hycon import busy as module
from hycon.busy import at, busy, counted


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(module, "PATIENCE", 0.02)
    monkeypatch.setattr(module, "REFRESH", 0.01)
    monkeypatch.setenv("COLUMNS", "40")


def test_what_takes_long_says_how_far_it_is_and_goes_away(impatient):
    stream = Terminal()
    with busy("importing mosei", stream):
        for video in counted(["a", "b"], "video"):
            time.sleep(0.1 if video == "b" else 0)
        at("a very long name of a file that has no room left on this line")
        time.sleep(0.1)
    shown = stream.getvalue().split("\r\x1b[K")
    assert "importing mosei: video 2 of 2, 0 s" in shown
    assert max(map(len, shown)) == 39
    assert shown[-1] == ""


def test_nothing_is_said_of_what_is_quick(monkeypatch):
    stream = Terminal()
    with busy("quick", stream):
        at("x")
    assert stream.getvalue() == ""


def test_nothing_is_said_where_there_is_no_terminal(impatient):
    stream = io.StringIO()
    before = threading.active_count()
    with busy("long", stream):
        assert threading.active_count() == before
        time.sleep(0.1)
    assert stream.getvalue() == ""


def test_one_inside_another_adds_nothing_and_both_end_with_the_block(impatient):
    stream, inner = Terminal(), Terminal()
    with pytest.raises(KeyError), busy("outer", stream):
        with busy("inner", inner):
            at("deep")
            time.sleep(0.1)
        raise KeyError
    assert "outer: deep, 0 s" in stream.getvalue()
    assert inner.getvalue() == ""
    assert not module._details
    at("outside of any: ignored")
    assert not module._details
