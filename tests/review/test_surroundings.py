"""What is around a key equals what a look at every decision finds, and its searches have a bound."""

import contextlib
from collections import Counter
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentinel.events.schema import Schema
from sentinel.record.views.rows import KeyReader, rows_of
from sentinel.record.views.sqlite import SqliteView
from sentinel.review.surroundings import EACH, MOST_LINKED, MOST_NEIGHBOURS, MOST_SHARING, Asked, Tally, surroundings

PLACED = Schema(
    keys=("card", "shop"), optional=("card", "shop", "latitude", "longitude"), place=("latitude", "longitude")
)


def stored(path, made, records):
    """A view of some records."""
    view = SqliteView(path)
    readers = {name: KeyReader(schema) for name, schema in made.SCHEMAS.items()}
    view.project(rows_of(records, readers.get), "log", 0, now_us=5)
    return contextlib.closing(view)


@pytest.fixture
def around(tmp_path, made):
    """What is around a key, in decisions that are given."""

    def find(rows, told=(), key="card", value="c1", **more):
        records = [made.decided_record(1, rows)]
        if told:
            records.append(made.outcomes_record(1 + len(rows), list(told)))
        with stored(tmp_path / "views.db", made, records) as view:
            return surroundings(view, Asked(key=key, texts=(value,), **more), made.SCHEMA)

    return find


def by_name(found):
    return {one.value: one for one in found.linked}


def test_a_card_leads_over_its_shop_to_another_card(around):
    rows = [
        {"id": "a", "card": "c1", "shop": "s1"},
        {"id": "b", "card": "c2", "shop": "s1", "action": "block"},
        {"id": "c", "card": "c3", "shop": "s2"},
        {"id": "d", "card": "c1", "shop": "s1", "action": "review"},
    ]
    found = around(rows, [{"id": "b", "is_fraud": True, "about": 2}, {"id": "a", "is_fraud": False, "about": 1}])
    assert [one.transaction_id for one in found.page.rows] == ["d", "a"]
    assert found.tally == Tally(2, 1, 0, 1)
    (shop,) = found.linked
    assert (shop.key, shop.value, shop.together, shop.shared_by) == ("shop", "s1", 2, ("c1", "c2"))
    assert shop.tally == Tally(3, 2, 1, 1)
    (other,) = found.neighbours
    assert (other.value, other.over, other.tally) == ("c2", (("shop", "s1"),), Tally(1, 1, 1, 0))


def test_of_an_unknown_key_there_is_nothing(around):
    found = around([{"id": "a"}], value="nobody")
    assert (found.page.rows, found.linked, found.neighbours, found.values) == ([], [], [], ("nobody",))
    assert found.tally == Tally(0, 0, 0, 0)


def test_a_shop_that_everyone_goes_to_ties_nobody_to_anyone(around):
    crowd = [{"id": f"x{n}", "card": f"o{n}", "shop": "market"} for n in range(MOST_SHARING)]
    few = [{"id": "y", "card": "o1", "shop": "kiosk"}]
    own = [{"id": "a", "shop": "market"}, {"id": "b", "shop": "kiosk"}]
    found = around(crowd + few + own)
    assert [one.value for one in found.linked] == ["kiosk", "market"]
    assert [one.tells for one in found.linked] == [True, False]
    assert [one.value for one in found.neighbours] == ["o1"]
    assert len(by_name(found)["market"].shared_by) == MOST_SHARING + 1


def test_a_shop_with_more_decisions_than_are_looked_at_says_so(around):
    found = around([{"id": f"x{n}", "card": "o1"} for n in range(EACH)] + [{"id": "a"}])
    (shop,) = found.linked
    assert shop.has_more
    assert shop.tally.decisions == EACH
    assert found.neighbours == []


def test_those_seen_last_are_followed_and_the_others_counted(around):
    found = around([{"id": f"x{n}", "shop": f"s{n:02}"} for n in range(MOST_LINKED + 3)])
    assert sorted(by_name(found)) == [f"s{n:02}" for n in range(3, MOST_LINKED + 3)]
    assert found.linked_left_out == 3


def test_more_neighbours_than_fit_are_counted(around):
    rows = [
        {"id": f"{shop}{n}", "card": f"o{shop}{n}", "shop": shop}
        for shop in ("s1", "s2")
        for n in range(MOST_SHARING - 1)
    ]
    found = around([*rows, {"id": "a", "shop": "s1"}, {"id": "b", "shop": "s2"}])
    assert len(found.neighbours) == MOST_NEIGHBOURS
    assert found.neighbours_left_out == 2 * (MOST_SHARING - 1) - MOST_NEIGHBOURS


def test_the_places_are_those_of_the_contents(tmp_path, made):
    there = {"event_time": 1_750_000_000_000_000, "latitude": 38.7, "longitude": -9.1}
    record = made.decided_record(1, [{"id": "a"} | there, {"id": "b"}])
    with stored(tmp_path / "views.db", made, [record]) as view:
        found = surroundings(view, Asked(key="card", texts=("c1",)), PLACED)
    assert found.moments[1] == (1, 1_750_000_000_000_000, (38.7, -9.1))
    assert found.moments[2].place is None


def test_a_shop_does_not_travel_when_its_cards_are_in_two_places(tmp_path, made):
    def at(name, minute, latitude, **more):
        when = 1_750_000_000_000_000 + minute * 60_000_000
        return {"id": name, "event_time": when, "latitude": latitude, "longitude": 3.0} | more

    rows = [at("a", 0, 38.7), at("b", 5, 6.5, card="c2"), at("c", 9, 6.5), at("d", 9, 50.0, card=None)]
    with stored(tmp_path / "views.db", made, [made.decided_record(1, rows)]) as view:
        found = surroundings(view, Asked(key="shop", texts=("s1",)), PLACED)
    assert [(one.begin.position, one.end.position) for one in found.journeys] == [(1, 3)]


def test_a_key_that_is_stored_under_two_texts_is_one(tmp_path, made):
    record = made.decided_record(1, [{"id": "a", "card": "new"}, {"id": "b", "card": "old"}, {"id": "c", "card": "c3"}])
    with stored(tmp_path / "views.db", made, [record]) as view:
        found = surroundings(view, Asked(key="card", texts=("new", "old")), made.SCHEMA)
    assert [one.transaction_id for one in found.page.rows] == ["b", "a"]
    assert found.values == ("old", "new")
    assert [one.value for one in found.neighbours] == ["c3"]


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(
        st.tuples(
            st.sampled_from(["c1", "c2", "c3", "c4", None]),
            st.sampled_from(["s1", "s2", "s3", None]),
            st.sampled_from(["approve", "review", "block"]),
            st.sampled_from([None, True, False]),
        ),
        min_size=1,
        max_size=25,
    ),
    key=st.sampled_from(["card", "shop"]),
)
def test_it_finds_what_a_look_at_every_decision_finds(tmp_path_factory, made, rows, key):
    value, other = ("c1", "shop") if key == "card" else ("s1", "card")
    batch = [
        {"id": f"t{n}", "card": card, "shop": shop, "action": action} for n, (card, shop, action, _) in enumerate(rows)
    ]
    told = [
        {"id": f"t{n}", "is_fraud": fraud, "about": n + 1} for n, (*_, fraud) in enumerate(rows) if fraud is not None
    ]
    records = [made.decided_record(1, batch)]
    if told:
        records.append(made.outcomes_record(1 + len(batch), told))
    with stored(tmp_path_factory.mktemp("views") / "views.db", made, records) as view:
        found = surroundings(view, Asked(key=key, texts=(value,)), made.SCHEMA)
    expected = by_hand(batch, {one["about"] - 1: one["is_fraud"] for one in told}, key, value, other)
    assert found.tally == expected.tally
    assert {one.value: (one.together, one.tally, set(one.shared_by)) for one in found.linked} == expected.linked
    assert {one.value: ({value for _, value in one.over}, one.tally) for one in found.neighbours} == expected.neighbours


def by_hand(batch, frauds, key, value, other):
    """The same by sieving all decisions anew for every question."""

    def tally(chosen):
        known = [frauds[n] for n in chosen if n in frauds]
        return Tally(len(chosen), sum(batch[n]["action"] != "approve" for n in chosen), sum(known), known.count(False))

    every = range(len(batch))
    own = [n for n in every if batch[n][key] == value]
    together = Counter(batch[n][other] for n in own if batch[n][other] is not None)
    of = {one: [n for n in every if batch[n][other] == one] for one in together}
    linked = {
        one: (together[one], tally(those), {batch[n][key] for n in those if batch[n][key] is not None})
        for one, those in of.items()
    }
    near = {}
    for name in {batch[n][key] for n in every} - {value, None}:
        shared = {one for one in together if any(batch[n][key] == name for n in of[one])}
        if shared:
            near[name] = (shared, tally([n for n in every if batch[n][key] == name and batch[n][other] in shared]))
    return SimpleNamespace(tally=tally(own), linked=linked, neighbours=near)


class CountingView(SqliteView):
    """A view that knows how often it was searched."""

    searches = 0

    def search(self, query):
        self.searches += 1
        return super().search(query)


def test_the_number_of_searches_has_a_bound(tmp_path, made):
    batch = [{"id": f"t{n}", "shop": f"s{n}"} for n in range(150)]
    with stored(tmp_path / "views.db", made, [made.decided_record(1, batch)]):
        view = CountingView(tmp_path / "views.db")
        surroundings(view, Asked(key="card", texts=("c1",)), made.SCHEMA)
        view.close()
    assert view.searches == 1 + MOST_LINKED
