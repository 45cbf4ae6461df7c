"""Amounts keep their order in the index, and a search by them finds what a look at every row finds."""

import msgspec
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from sentinel.record.views import DecisionQuery
from sentinel.record.views.amount_index import codes_of
from tests.record.views.test_views import RUNS, as_dicts, case, found_by_hand, pages, project, view

__all__ = ["case", "view"]
AMOUNTS = st.floats(allow_nan=False)


@given(st.lists(AMOUNTS, min_size=2, max_size=20))
def test_no_greater_amount_has_a_lesser_code(amounts):
    codes = codes_of(np.sort(np.array(amounts)))
    assert (np.diff(codes) >= 0).all()
    assert codes.min() >= 0
    assert codes.max() < 1 << 22


@settings(max_examples=RUNS, deadline=None)
@given(data=st.data())
def test_amounts_are_found_with_and_without_other_conditions_over_many_buckets(case, made, data):
    some = st.sampled_from([-3.5, 0.0, 1.0, 99.99, 100.0, 100.01, 1e6])
    row = st.fixed_dictionaries(
        {
            "amount": some,
            "card": st.sampled_from(["c1", "c2"]),
            "action": st.sampled_from(["approve", "review", "block"]),
            "degraded": st.sampled_from([None, None, "slow"]),
        }
    )
    records, rows, position = [], [], 1
    for n in range(data.draw(st.integers(1, 6))):
        batch = [one | {"id": f"{n}-{m}"} for m, one in enumerate(data.draw(st.lists(row, min_size=1, max_size=6)))]
        records.append(made.decided_record(position, batch, n))
        rows += [made.listed(one) | {"position": position + m, "received_us": n} for m, one in enumerate(batch)]
        position += len(batch) + data.draw(st.sampled_from([0, 100, 16_384, 40_000]))
    queries = st.builds(
        DecisionQuery,
        keys=st.sampled_from([{}, {}, {"card": "c1"}]),
        action=st.sampled_from([None, "approve", "block"]),
        degraded=st.sampled_from([False, False, True]),
        from_us=st.none() | st.integers(0, 5),
        least_amount=st.none() | some,
        most_amount=st.none() | some,
        limit=st.integers(1, 6),
    )
    with case() as one:
        cut = data.draw(st.integers(0, len(records)))
        if cut:
            project(one.view, made, records[:cut])
            if data.draw(st.booleans()):  # as a view is that was made before there was an index
                with one.view._writing() as writer:
                    writer.exec_driver_sql("DELETE FROM amount_entries")
        if cut < len(records):
            project(one.view, made, records[cut:])
        for query in data.draw(st.lists(queries, min_size=2, max_size=5)):
            assert as_dicts(pages(one.view, query)) == found_by_hand(rows, query)


def test_what_is_just_outside_of_a_range_is_not_in_it(view, made):
    amounts = [100.0, np.nextafter(100.0, 0), np.nextafter(100.0, 200), 100.01]
    project(view, made, [made.decided_record(20_000, [{"id": str(n), "amount": one} for n, one in enumerate(amounts)])])
    project(
        view, made, [made.decided_record(60_000, [{"id": f"b{n}", "amount": one} for n, one in enumerate(amounts)])]
    )
    query = DecisionQuery(least_amount=100.0, most_amount=100.0)
    assert [row.transaction_id for row in view.search(query).rows] == ["b0", "0"]
    assert len(view.search(msgspec.structs.replace(query, most_amount=100.01)).rows) == 6
