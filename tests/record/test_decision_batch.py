"""Decisions by columns are the same decisions."""

from hypothesis import given
from hypothesis import strategies as st

from sentinel.events.log import hash_text
from sentinel.record.decision_batch import NO_DECISIONS, DecisionBatch
from sentinel.record.journal_reader import DECISION_COLUMNS, DecisionRow

ROW = DecisionRow(
    seq=1, transaction_id="t1", content=b"{}", features=b"", fraud_probability=0.5, decision="approve",
    review_threshold=0.6, block_threshold=None, model_version="v1", detector="shop", late=False, variant=None,
    experiment=None, circuit="closed", degraded=None, batch_size=2, latency_us=5, decided_at_us=7,
)  # fmt: skip

changes = st.fixed_dictionaries(
    {
        "transaction_id": st.text(min_size=1, max_size=5),
        "fraud_probability": st.floats(0, 1),
        "late": st.booleans(),
        "review_threshold": st.sampled_from([0.5, 0.75]),
        "block_threshold": st.sampled_from([None, 0.9]),
        "variant": st.sampled_from([None, "a", "b"]),
        "degraded": st.sampled_from([None, "overloaded"]),
    }
)


@given(st.lists(changes, max_size=6))
def test_rows_become_columns_and_rows_again(changed):
    rows = [ROW._replace(seq=n, **one) for n, one in enumerate(changed)]
    batch = DecisionBatch.of_rows(rows)
    assert batch.size == len(rows)
    assert batch.rows() == rows == [batch.row(n) for n in range(len(rows))]
    assert {name: list(batch.values(name)) for name in DECISION_COLUMNS} == {
        name: [getattr(row, name) for row in rows] for name in DECISION_COLUMNS
    }
    assert batch.hashes.tolist() == [hash_text(row.transaction_id) for row in rows]


def test_what_all_share_is_kept_once():
    batch = DecisionBatch.of_rows([ROW, ROW._replace(seq=2, transaction_id="t2", latency_us=9)])
    shared = {name: value for name, (same, value) in zip(DECISION_COLUMNS, batch.columns, strict=True) if same}
    assert shared["model_version"] == "v1"
    assert shared["block_threshold"] is None
    assert {"seq", "transaction_id", "late", "latency_us"}.isdisjoint(shared)


def test_there_may_be_none():
    assert DecisionBatch.of_rows([]) is NO_DECISIONS
    assert NO_DECISIONS.rows() == []
    assert list(NO_DECISIONS.values("seq")) == []
