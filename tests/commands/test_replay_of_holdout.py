"""A replay draws the holdout again: a stored draw that the model's declaration does not give is named."""

import msgspec
import pytest

from sentinel.commands.replay import _after_holdout
from sentinel.policy.holdout import Holdout
from sentinel.record.entries import DecisionRow, Drawn

HOLDOUT = Holdout(share=0.3, most_amount=5.0, budget_a_day=10.0, seed="a seed that nobody knows")


def row(name: str, drawn: Drawn | None) -> DecisionRow:
    return DecisionRow(0, name, b"", None, 0.9, "block", False, None, "shop", 1, 1, 1, drawn)


@pytest.mark.parametrize("name", [f"t{n}" for n in range(20)])
def test_the_draw_is_drawn_again(name):
    expected = "approve" if HOLDOUT.chooses(name) else "block"
    assert _after_holdout("block", row(name, Drawn(0, 2, 0.3, True)), HOLDOUT) == expected


def test_what_was_not_drawn_is_as_it_was_called_for():
    assert _after_holdout("block", row("t1", None), HOLDOUT) == "block"


def test_another_share_another_action_and_no_holdout_are_named():
    drawn = row("t1", Drawn(0, 2, 0.3, True))
    assert "0.2" in _after_holdout("block", drawn, msgspec.structs.replace(HOLDOUT, share=0.2))
    assert "no holdout" in _after_holdout("review", drawn, HOLDOUT)
    assert "no holdout" in _after_holdout("block", drawn, None)
