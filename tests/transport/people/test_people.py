"""People: what is kept of one, what a role opens, when sessions end, and that every change waits for the audit."""

import json
import secrets
import stat
from concurrent.futures import ThreadPoolExecutor

import msgspec
import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from sentinel.errors import Conflict, InvalidInput, NotFound, RateLimited, StorageProblem, Unauthorized
from sentinel.record.audit import By
from sentinel.transport.access.claims import Peer
from sentinel.transport.access.limits import MOST_TRIES
from sentinel.transport.access.scopes import EVERYTHING, ROLES, Scope
from sentinel.transport.http.bodies import MOST_OF_ADMIN
from sentinel.transport.people.database import PeopleDatabase
from sentinel.transport.people.logging_in import LogIn
from sentinel.transport.people.passwords import check_password, new_password
from sentinel.transport.people.people import People, check_name
from sentinel.transport.people.sessions import MOST_OF_ONE, Lasting, Sessions
from sentinel.transport.people.tables import facts

BY = By("boss", "127.0.0.1", "a test")
HERE, THERE = Peer.of(("127.0.0.1", 1)), Peer.of(("192.0.2.7", 1))
GOOD = "four words that last"
SECOND_US = 1_000_000
LASTING = Lasting(idle_us=1800 * SECOND_US, longest_us=43_200 * SECOND_US)


@pytest.fixture(params=["file", "postgres"])
def database(request, tmp_path, service):
    """Where people are kept: each test has tables of its own."""
    url = None
    if request.param == "postgres":
        running = service("postgres")
        address = sa.make_url(running.url).set(drivername="postgresql", password=running.environment["PGPASSWORD"])
        url = address.render_as_string(hide_password=False)
    home = tmp_path / "tenants" / f"t{secrets.token_hex(4)}"
    opened = PeopleDatabase(home, url)
    yield opened
    opened.close()


@pytest.fixture
def people(database):
    return People(database)


@pytest.fixture
def log_in(people):
    return LogIn(people)


def changes(people):
    return [change for _, change in people.not_audited()]


def test_a_person_is_kept_without_the_password(people, tmp_path):
    people.add("ana", "analyst", GOOD, BY, 5)
    found = people.named("ana")
    assert (found.role, found.created_us, found.must_change, found.is_disabled, found.seen_us) == (
        "analyst", 5, True, False, None,
    )  # fmt: skip
    for file in tmp_path.rglob("people.db*"):
        assert GOOD.encode() not in file.read_bytes()
        assert stat.S_IMODE(file.stat().st_mode) & 0o077 == 0 or file.suffix == ".db-shm" or "-wal" in file.name
    assert people.has_password("ana", GOOD)
    assert not people.has_password("ana", GOOD + "x")
    assert not people.has_password("nobody", GOOD)


@pytest.mark.parametrize("role", ROLES)
def test_a_person_may_what_the_table_says_of_the_role(people, role):
    assert people.add("ana", role, GOOD, BY, 0).scopes == (EVERYTHING if role == "admin" else ROLES[role])
    assert (Scope.ADMIN in people.named("ana").scopes) == (role == "admin")


@pytest.mark.parametrize("name", ["", " ", "Ana", "a b", "a" * 65, "-a", "ana\n", "<b>", "\u0430na", "ana\u202e"])
def test_what_no_name_can_be_is_refused(name):
    with pytest.raises(InvalidInput, match="A name is"):
        check_name(name)


@pytest.mark.parametrize("password", ["", "short", "a" * 12, "x" * 257, "anastasia@bank", "anaanaananas"])
def test_what_no_password_can_be_is_refused(people, password):
    name = "anastasia@bank" if password == "anastasia@bank" else "ana"  # noqa: S105 - a case of the test
    with pytest.raises(InvalidInput):
        people.add(name, "viewer", password, BY, 0)
    assert people.everyone() == []
    assert changes(people) == []


def test_a_new_password_is_good_enough():
    made = {new_password() for _ in range(200)}
    assert len(made) == 200
    for one in made:
        check_password(one, "ana")


def test_a_name_is_one_persons(people):
    people.add("ana", "viewer", GOOD, BY, 0)
    with pytest.raises(Conflict, match="choose another name"):
        people.add("ana", "admin", GOOD, BY, 1)
    assert people.named("ana").role == "viewer"


def test_every_change_waits_for_the_audit_and_none_that_failed(people):
    people.add("ana", "viewer", GOOD, BY, 1)
    people.set_role("ana", "analyst", BY, 2)
    people.set_disabled("ana", True, BY, 3)
    with pytest.raises(InvalidInput):
        people.set_role("ana", "king", BY, 4)
    with pytest.raises(NotFound):
        people.set_disabled("eve", True, BY, 5)
    made, role, disabled = changes(people)
    assert (made.who, made.before, made.at_us) == ("boss", "null", 1)
    assert ('"viewer"' in role.before, '"analyst"' in role.after) == (True, True)
    assert '"is_disabled":true' in disabled.after
    people.drop_audited([number for number, _ in people.not_audited()[:2]])
    assert changes(people) == [disabled]
    assert people.n_not_audited() == 1


@pytest.mark.parametrize("take", ["role", "disable"])
def test_there_is_always_an_admin(people, take):
    people.add("boss", "admin", GOOD, BY, 0)

    def lose(name):
        return people.set_role(name, "viewer", BY, 1) if take == "role" else people.set_disabled(name, True, BY, 1)

    with pytest.raises(Conflict, match="last admin"):
        lose("boss")
    assert (people.named("boss").role, people.named("boss").is_disabled) == ("admin", False)
    people.add("chief", "admin", GOOD, BY, 2)
    lose("boss")
    with pytest.raises(Conflict, match="last admin"):
        lose("chief")


def test_two_starts_make_one_first_admin(people):
    with ThreadPoolExecutor(2) as pool:
        made = list(pool.map(lambda _: people.add_first(GOOD, BY, 0), range(2)))
    assert [one.name for one in people.everyone()] == ["admin"]
    assert sum(one is not None for one in made) == 1
    assert people.add_first(GOOD, BY, 1) is None


def test_a_session_is_found_by_its_token_until_it_ends(people, database):
    sessions = Sessions(database, LASTING)
    ana = people.add("ana", "analyst", GOOD, BY, 0)
    token = sessions.begin(ana, BY, 0)
    session = sessions.find(token, 1)
    assert (session.person.name, session.person.seen_us) == ("ana", 0)
    with pytest.raises(Unauthorized):
        sessions.find(token + "x", 1)
    with pytest.raises(Unauthorized):
        sessions.find(session.sha256, 1)  # what is kept is not what opens
    sessions.end(session, BY, 2)
    with pytest.raises(Unauthorized):
        sessions.find(token, 3)


@pytest.mark.parametrize("how", ["password", "disable"])
def test_sessions_end_with_the_password_and_with_the_person(people, database, how):
    sessions = Sessions(database, LASTING)
    ana, bob = (people.add(name, "viewer", GOOD, BY, 0) for name in ("ana", "bob"))
    tokens = [sessions.begin(ana, BY, 0), sessions.begin(ana, BY, 0)]
    other = sessions.begin(bob, BY, 0)
    if how == "password":
        people.set_password("ana", "other words that last", BY, 1, must_change=False)
        assert not people.has_password("ana", GOOD)
    else:
        people.set_disabled("ana", True, BY, 1)
        assert not people.has_password("ana", GOOD)
    for token in tokens:
        with pytest.raises(Unauthorized):
            sessions.find(token, 2)
    assert sessions.find(other, 2).person.name == "bob"


def test_another_role_counts_from_the_next_request_on(people, database):
    sessions = Sessions(database, LASTING)
    token = sessions.begin(people.add("ana", "operator", GOOD, BY, 0), BY, 0)
    people.set_role("ana", "viewer", BY, 1)
    assert sessions.find(token, 2).person.scopes == {Scope.READ}


@pytest.fixture(scope="module")
def one_person(tmp_path_factory):
    """A database with one person, for many examples."""
    opened = PeopleDatabase(tmp_path_factory.mktemp("sessions"))
    yield opened, People(opened).add("ana", "viewer", GOOD, BY, 0)
    opened.close()


@settings(max_examples=30, deadline=None)
@given(gaps=st.lists(st.tuples(st.integers(0, 3000), st.booleans()), max_size=30))
def test_a_session_ends_when_nothing_comes_or_its_longest_time_is_over(one_person, gaps):
    """A simple model beside it: what is looked at without counting keeps nothing alive."""
    database, ana = one_person
    sessions = Sessions(database, LASTING)
    token, now, seen, is_over = sessions.begin(ana, BY, 0), 0, 0, False
    for gap_s, counts in gaps:
        now += gap_s * SECOND_US
        is_over = is_over or now - seen > LASTING.idle_us or now > LASTING.longest_us
        if is_over:
            with pytest.raises(Unauthorized):
                sessions.find(token, now, counts=counts)
        else:
            sessions.find(token, now, counts=counts)
            seen = now if counts and now - seen > 30 * SECOND_US else seen


def test_the_oldest_of_many_sessions_ends(people, database):
    sessions = Sessions(database, LASTING)
    ana = people.add("ana", "viewer", GOOD, BY, 0)
    tokens = [sessions.begin(ana, BY, n) for n in range(MOST_OF_ONE + 1)]
    with pytest.raises(Unauthorized):
        sessions.find(tokens[0], 100)
    assert sessions.find(tokens[1], 100).person == sessions.find(tokens[-1], 100).person


def test_wrong_passwords_are_counted_by_network_and_by_name(people, log_in):
    people.add("ana", "viewer", GOOD, BY, 0)
    for n in range(10):
        with pytest.raises(Unauthorized, match="name or the password"):
            log_in.person("ana", f"wrong {n}", HERE, 1)
    with pytest.raises(RateLimited) as slowed:
        log_in.person("ana", GOOD, THERE, 1)  # from wherever it is tried
    assert 0 < slowed.value.retry_after_s <= 60
    with pytest.raises(RateLimited):
        log_in.person("bob", GOOD, HERE, 1)  # whoever is tried from there
    refused = [one for one in changes(people) if one.after == "refused"]
    assert [one.who for one in refused] == ["ana", "ana"]  # the first, and the last of the minute


def test_what_is_typed_as_a_name_is_not_kept(people, log_in):
    with pytest.raises(Unauthorized):
        log_in.person("my secret password", "ana", HERE, 1)
    (noted,) = changes(people)
    assert noted.who == "somebody unknown"
    assert "secret" not in repr(noted)


def test_a_name_is_taken_however_it_is_written(people, log_in):
    people.add("ana", "viewer", GOOD, BY, 0)
    assert log_in.person(" Ana ", GOOD, HERE, 1).name == "ana"


def test_tables_of_another_version_are_refused(tmp_path):
    database = PeopleDatabase(tmp_path)
    with database.writing() as writer:
        writer.execute(facts.update().values(version=99))
    database.close()
    with pytest.raises(StorageProblem, match="another version"):
        PeopleDatabase(tmp_path)


def test_a_file_that_is_no_database_is_said_to_be_none(tmp_path):
    (tmp_path / "people.db").write_bytes(b"not a database, for sure" * 100)
    with pytest.raises(StorageProblem, match="restore it from a backup"):
        PeopleDatabase(tmp_path)


def test_many_at_once_have_no_more_tries_than_one_after_the_other(people, log_in):
    people.add("ana", "analyst", GOOD, BY, 1)

    def tried(n):
        try:
            log_in.person("ana", f"a wrong one {n}", Peer.of((f"192.0.2.{n}", 1)), 2)
        except (Unauthorized, RateLimited) as error:
            return type(error)

    with ThreadPoolExecutor(40) as pool:
        found = list(pool.map(tried, range(40)))
    assert found.count(Unauthorized) == MOST_TRIES


def test_what_can_be_no_name_is_nobodys(people, log_in):
    for name in ("a\x00b", "\ud800", "x" * 5_000, "", "' or 1=1 --"):
        with pytest.raises(Unauthorized):
            log_in.person(name, GOOD, Peer.of((secrets.token_hex(4), 1)), 1)


def test_what_waits_for_the_audit_goes_there_in_pieces_that_the_server_takes(people):
    long = By("ana", "here", "console: search", "\u00e9" * 1_000)
    for _ in range(200):
        people.note(long, 1, "\U0001f600" * 1_000, '"' * 1_000)
    n = 0
    while waiting := people.not_audited():
        sent = json.dumps({"changes": [msgspec.structs.asdict(one) for _, one in waiting]})
        assert len(sent) <= MOST_OF_ADMIN
        people.drop_audited([number for number, _ in waiting])
        n += len(waiting)
    assert n == 200
