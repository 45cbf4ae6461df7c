"""Operators are told of every follower that is stuck."""

from sentinel.record.problem import tell_problem
from sentinel.review.case_store import opener
from sentinel.serve.notifier import _of_followers


def test_a_case_opener_that_is_stuck_is_told_of(tmp_path):
    assert _of_followers(tmp_path, 0) == []
    tell_problem(tmp_path, opener.WHO, "the disk is full")
    (one,) = _of_followers(tmp_path, 0)
    assert (one.kind, one.about) == ("follower.stuck", "case opener")
    assert "the disk is full" in one.text
