"""Learning curves in a terminal."""

import pytest

from studies.document.plot import WIDTH, plot


def test_a_plot_is_exact():
    shown = plot({"train loss": [3.0, 2.0, 1.0], "validation loss": [1.0, 0.5, 0.75]}, 2)
    assert shown == "\n".join(
        [
            "            train loss",
            "          3 ████",
            "            ████▁▁▁▁",
            "            ████████",
            "          1 ████████▁▁▁▁",
            "            validation loss",
            "          1 ████",
            "            ████    ▁▁▁▁",
            "            ████    ████",
            "        0.5 ████▁▁▁▁████",
            "            1   ▲▲▲▲",
            "                epoch 2 of 3, the best",
        ]
    )


def test_in_ascii():
    shown = plot({"loss": [2.0, None, 1.0]}, 1, plain=True)
    assert shown.isascii()
    assert "####" in shown
    assert "^^^^" in shown


@pytest.mark.parametrize("epochs", [1, 2, 16, 64, 65, 100, 1000])
def test_any_number_of_epochs_fits(epochs):
    shown = plot({"loss": [1 / (i + 1) for i in range(epochs)]}, epochs)
    assert max(map(len, shown.splitlines())) <= WIDTH + 12
    assert f"epoch {epochs} of {epochs}, the best" in shown


def test_undefined_losses_leave_gaps():
    assert "no value" in plot({"loss": [None, float("nan")]}, None)
    assert "1 to 2 epochs" in plot({"loss": [None, 1.0]}, None)
    assert plot({"loss": []}, None) == "no learning curve"
