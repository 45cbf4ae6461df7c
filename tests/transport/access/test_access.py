"""Who is let in: keys, the operator at this machine, pages of others, wrong keys, rates, and what is remembered."""

import asyncio
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel.config import Settings
from sentinel.errors import BadBody, Forbidden, RateLimited, Unauthorized
from sentinel.record.audit import Change
from sentinel.telemetry.counters import Counters, Slot
from sentinel.transport.access import access as access_module
from sentinel.transport.access.access import Access
from sentinel.transport.access.claims import Claims, Peer
from sentinel.transport.access.keys import Grant
from sentinel.transport.access.limits import MOST_TRIES, Limiter, WrongKeys
from sentinel.transport.access.scopes import ROLES, Scope, needed_scope, opened_by
from sentinel.transport.access.store import KeyStore

HERE, AWAY = Peer.of(("127.0.0.1", 5)), Peer.of(("10.0.0.7", 5))
ADMIN_KEY = "the-admin-key-of-many-characters"
FAR_US = 10**17


def claims(needs=Scope.SCORE, *, writes=True, key=None, **headers):
    given = {"host": "localhost:8000"} | {name.replace("_", "-"): value for name, value in headers.items()}
    if key is not None:
        given["authorization"] = f"Bearer {key}"
    return Claims.of(needs, {name: value for name, value in given.items() if value is not None}, writes=writes)


@pytest.fixture
def counters():
    return Counters()


@pytest.fixture
def make(tmp_path, counters):
    def making(*, keys=(), **settings):
        store = KeyStore(tmp_path)
        for name, token, scopes, more in keys:
            grant = Grant(name=name, scopes=scopes, **more)
            store.change(lambda ring, grant=grant, token=token: ring.with_new(grant, token, FAR_US))
        return Access(Settings(home=tmp_path, **settings), counters)

    return making


def let_in(access, asked, peer=HERE):
    return access.admit(asked, peer).caller


# the operator without a key


def test_whoever_sits_at_this_machine_needs_no_key(make):
    access = make()
    for host in ("localhost", "localhost:8000", "127.0.0.1:8000", "[::1]:8000", "LOCALHOST"):
        for needs in Scope:
            assert let_in(access, claims(needs, host=host)).name == "operator"
    for peer in (("127.9.9.9", 1), ("::1", 1, 0, 0), ("::ffff:127.0.0.1", 1, 0, 0)):
        assert let_in(access, claims(), Peer.of(peer)).name == "operator"


@pytest.mark.parametrize(
    "headers",
    [
        {"forwarded": "for=127.0.0.1"}, {"via": "1.1 proxy"}, {"x_real_ip": "127.0.0.1"}, {"x_forwarded_for": "127.0.0.1"},
        {"x_forwarded_proto": "https"}, {"x_forwarded_host": ""}, {"host": "10.0.0.1"}, {"host": "192.168.1.1:8000"},
    ],
)  # fmt: skip
def test_what_came_through_a_proxy_or_was_sent_elsewhere_is_not_the_operators(make, headers):
    with pytest.raises(Unauthorized, match="this machine only"):
        make().admit(claims(**headers), HERE)


@pytest.mark.parametrize(
    "peer", [AWAY, Peer.of(None), Peer.of(("", 1)), Peer.of("/run/socket"), Peer.of(("fe80::1", 1))]
)
def test_other_machines_need_a_key(make, peer):
    with pytest.raises(Unauthorized):
        make().admit(claims(), peer)


def test_where_keys_are_required_this_machine_needs_one_too(make):
    access = make(auth="required")
    assert not access.has_keys
    with pytest.raises(Unauthorized, match="sentinel keys create"):
        access.admit(claims(), HERE)
    assert let_in(access, claims(None, writes=False), AWAY).name == "anyone"


def test_with_an_admin_key_the_admin_calls_need_one(make):
    access = make(admin_key=ADMIN_KEY)
    for needs in (Scope.SCORE, Scope.READ, Scope.OUTCOMES):
        assert let_in(access, claims(needs)).name == "operator"
    for needs in (Scope.OPERATE, Scope.RULES, Scope.ADMIN):
        with pytest.raises(Unauthorized, match=str(needs)):
            access.admit(claims(needs), HERE)
        assert let_in(access, claims(needs, key=ADMIN_KEY), AWAY).name == "admin-key"


# pages


@pytest.mark.parametrize("key", [None, ADMIN_KEY])
@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "", "http://localhost:9000", "http://localhost.evil"]
)
def test_pages_of_others_are_refused_even_with_a_key(make, origin, key):
    access = make(admin_key=ADMIN_KEY)
    for writes in (True, False):
        with pytest.raises(Forbidden, match="SENTINEL_CORS_ORIGINS"):
            access.admit(claims(Scope.READ, writes=writes, key=key, origin=origin), HERE)


def test_our_own_pages_and_those_of_a_list_may(make):
    access = make(cors_origins=("https://my.shop",), admin_key=ADMIN_KEY)
    assert let_in(access, claims(origin="http://localhost:8000", sec_fetch_site="same-origin")).name == "operator"
    listed = {"origin": "https://my.shop", "sec_fetch_site": "cross-site"}
    assert let_in(access, claims(key=ADMIN_KEY, **listed)).name == "admin-key"
    with pytest.raises(Unauthorized):  # the operator sits at this machine, not at that page
        access.admit(claims(**listed), HERE)


@pytest.mark.parametrize("site", ["cross-site", "same-site", "x"])
def test_a_browser_that_says_another_site_asks_is_refused_what_it_writes(make, site):
    access = make()
    with pytest.raises(Forbidden, match="another site"):
        access.admit(claims(sec_fetch_site=site), HERE)
    assert let_in(access, claims(Scope.READ, writes=False, sec_fetch_site=site)).name == "operator"  # a link to us


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8000", "localhost.evil.example", "127.0.0.1.nip.io", "x"]
)
def test_a_name_that_only_points_here_is_refused(make, host):
    """DNS rebinding: the page's own name, so that its Origin is that of the request."""
    access = make(admin_key=ADMIN_KEY)
    for key in (None, ADMIN_KEY):
        with pytest.raises(Forbidden, match="SENTINEL_HOSTS"):
            access.admit(claims(host=host, origin=f"http://{host}", key=key), HERE)
    with pytest.raises(Forbidden):
        access.admit(claims(None, writes=False, host=host), HERE)


def test_names_that_are_listed_are_answered_with_a_key(make):
    access = make(hosts=("Fraud.Example",), admin_key=ADMIN_KEY)
    assert let_in(access, claims(host="fraud.example:443", key=ADMIN_KEY), AWAY).name == "admin-key"
    with pytest.raises(Unauthorized):
        access.admit(claims(host="fraud.example"), HERE)
    assert let_in(make(hosts=("*",), admin_key=ADMIN_KEY), claims(host="any.one", key=ADMIN_KEY)).name == "admin-key"


@pytest.mark.parametrize(
    "host", [None, "", ":80", "a b", "localhost:", "localhost:x", "u@localhost", "[::1", "[localhost]"]
)
def test_a_host_that_is_no_name_is_400(make, host):
    with pytest.raises(BadBody, match="Host"):
        make().admit(claims(host=host), HERE)
    if host is None:  # the probes of old load balancers
        assert let_in(make(), claims(None, writes=False, host=None), AWAY).name == "anyone"


# keys


def test_a_key_may_what_its_scopes_say_and_the_refusal_names_the_scope(make):
    access = make(keys=[("shop", "sk_shop", (Scope.SCORE, Scope.READ), {"source": "acquirer"})], auth="required")
    caller = let_in(access, claims(Scope.SCORE, key="sk_shop"), AWAY)
    assert (caller.name, caller.source) == ("shop", "acquirer")
    for needs in (Scope.OUTCOMES, Scope.ADMIN, Scope.OPERATE, Scope.EVENTS):
        with pytest.raises(Forbidden, match=f"'shop' lacks the scope '{needs}'.*it has score, read"):
            access.admit(claims(needs, key="sk_shop"), HERE)


def test_a_key_counts_even_where_none_is_needed(make):
    access = make(keys=[("shop", "sk_shop", (Scope.SCORE,), {})])
    with pytest.raises(Forbidden):
        access.admit(claims(Scope.READ, key="sk_shop"), HERE)
    with pytest.raises(Unauthorized):
        access.admit(claims(Scope.READ, key="sk_other"), HERE)


def test_admin_opens_everything_and_the_roles_are_of_the_same_table():
    assert opened_by([Scope.ADMIN]) == frozenset(Scope) == ROLES["admin"]
    assert ROLES["viewer"] < ROLES["analyst"] < ROLES["rule editor"] < ROLES["operator"] < ROLES["admin"]
    assert Scope.SCORE not in ROLES["rule editor"]


@pytest.mark.parametrize(
    "given", ["", "Bearer", "Bearer ", "Basic sk_shop", "sk_shop", "Bearer sk_sho", "Bearer sk_shopx", "Bearer \xff"]
)
def test_whatever_is_no_key_is_401(make, counters, given):
    access = make(keys=[("shop", "sk_shop", (Scope.SCORE,), {})], auth="required")
    with pytest.raises(Unauthorized, match="not known here"):
        access.admit(claims(authorization=given), HERE)
    assert counters.totals()[Slot.REFUSED_WRONG_KEY] == 1
    assert let_in(access, claims(authorization="bearer  sk_shop ")).name == "shop"


def test_a_key_that_has_expired_is_refused_and_says_when(make, monkeypatch):
    access = make(keys=[("shop", "sk_shop", (Scope.SCORE,), {"lasts_us": 1_000_000})], auth="required")
    now = [FAR_US]
    monkeypatch.setattr(access_module, "clock_us", lambda: now[0])
    assert let_in(access, claims(key="sk_shop")).name == "shop"
    now[0] += 1_000_000
    asyncio.run(access.look_for_keys({}))
    with pytest.raises(Unauthorized, match="expired at"):
        access.admit(claims(key="sk_shop"), HERE)


# wrong keys


def test_wrong_keys_are_slowed_by_address_and_logged_without_the_key(make, counters, caplog):
    access = make(admin_key=ADMIN_KEY, auth="required", keys=[("shop", "sk_shop", (Scope.SCORE,), {})])
    caplog.set_level(logging.WARNING)
    for n in range(MOST_TRIES):
        with pytest.raises(Unauthorized):
            access.admit(claims(key=f"guess-{n}"), AWAY)
    for n in range(200):
        with pytest.raises(RateLimited) as slowed:
            access.admit(claims(key=f"guess+{n}"), AWAY)
        assert 1 <= slowed.value.retry_after_s <= 61
    with pytest.raises(RateLimited):  # a key that people chose is not tried any more
        access.admit(claims(key=ADMIN_KEY), AWAY)
    assert let_in(access, claims(key="sk_shop"), AWAY).name == "shop"  # one that nobody can guess is
    assert let_in(access, claims(key=ADMIN_KEY), HERE).name == "admin-key"  # and so is everyone elsewhere
    assert [one.getMessage() for one in caplog.records] == [
        f"a wrong key from 10.0.0.7, {n} within a minute" for n in (1, 10, 100)
    ]
    assert counters.totals()[Slot.REFUSED_WRONG_KEY] == MOST_TRIES + 201


def test_a_revoked_key_that_goes_on_asking_does_not_lock_the_admin_out(make):
    access = make(admin_key=ADMIN_KEY, auth="required")
    for n in range(50):
        with pytest.raises((Unauthorized, RateLimited)):
            access.admit(claims(key=f"sk_{n}"), AWAY)
    assert let_in(access, claims(key=ADMIN_KEY), AWAY).name == "admin-key"


def test_what_a_proxy_forwards_is_counted_apart_from_who_asks_at_the_machine(make):
    """Behind a proxy on this machine anybody's guesses come from loopback, and the operator does too."""
    access = make(admin_key=ADMIN_KEY, auth="required")
    for n in range(50):
        with pytest.raises((Unauthorized, RateLimited)):
            access.admit(claims(key=f"guess-{n}", x_forwarded_for="10.0.0.7"), HERE)
    with pytest.raises(RateLimited):
        access.admit(claims(key=ADMIN_KEY, x_forwarded_for="10.0.0.7"), HERE)
    assert let_in(access, claims(key=ADMIN_KEY), HERE).name == "admin-key"
    with pytest.raises(Unauthorized):
        access.admit(claims(key="guess"), HERE)


def test_addresses_are_counted_for_a_minute_and_only_so_many():
    wrong = WrongKeys()
    for n in range(MOST_TRIES):
        assert wrong.count("10.0.0.7", 0.0) == n + 1
    assert wrong.wait_s("10.0.0.7", 30.0) == 31
    assert wrong.wait_s("10.0.0.7", 61.0) == 0
    assert wrong.count("10.0.0.7", 61.0) == 1
    for n in range(10_000):
        wrong.count(f"2001:db8:{n:x}::/64", 0.0)
    assert len(wrong._tries) == 4_096
    assert Peer.of(("2001:db8::1", 1)).network == Peer.of(("2001:db8::ffff:2", 1)).network


# rates


def test_a_rate_counts_transactions_and_a_batch_is_paid_later():
    limiter = Limiter("shop", 10.0, 0.0)
    assert [limiter.try_take(0.0) for _ in range(11)] == [True] * 10 + [False]
    assert [limiter.try_take(1.0) for _ in range(11)] == [True] * 10 + [False]
    assert limiter.try_take(2.0)
    limiter.charge(99)
    assert not limiter.try_take(2.0)
    refusal = limiter.refusal(2.0)
    assert "10 transactions a second" in str(refusal)
    assert 10 <= refusal.retry_after_s <= 11
    assert not limiter.try_take(10.8)
    assert limiter.try_take(2.0 + refusal.retry_after_s)


@given(st.floats(0.01, 1e6), st.lists(st.floats(0, 10), min_size=1, max_size=200))
def test_no_more_than_the_rate_and_a_second_of_it_is_ever_let_in(rate, pauses):
    limiter, now, taken = Limiter("shop", rate, 0.0), 0.0, 0
    for pause in pauses:
        now += pause
        taken += sum(limiter.try_take(now) for _ in range(5))
        assert taken <= rate * now + max(rate, 1.0) + 1


def test_a_key_over_its_rate_is_429_and_others_are_not_held_up(make, counters):
    keys = [("slow", "sk_slow", (Scope.SCORE,), {"rate": 2.0}), ("free", "sk_free", (Scope.SCORE,), {})]
    access = make(keys=keys, auth="required")
    for _ in range(2):
        let_in(access, claims(key="sk_slow"))
    with pytest.raises(RateLimited, match="'slow'"):
        access.admit(claims(key="sk_slow"), HERE)
    assert not access.remembered(claims(key="sk_slow"), HERE).take_one()
    for _ in range(1000):
        let_in(access, claims(key="sk_free"))
    assert counters.totals()[Slot.REFUSED_RATE] == 1


# what is remembered


def test_the_same_head_is_a_look_up_until_keys_change(make, tmp_path):
    access = make(keys=[("shop", "sk_shop", (Scope.SCORE,), {})], auth="required")
    asked = claims(key="sk_shop")
    assert not access.remembered(asked, AWAY)
    let_in(access, asked, AWAY)
    assert access.remembered(asked, AWAY)
    KeyStore(tmp_path).change(lambda ring: ring.without("shop"))
    asyncio.run(access.look_for_keys({}))
    assert not access.remembered(asked, AWAY)
    with pytest.raises(Unauthorized):
        access.admit(asked, AWAY)


def test_a_look_up_is_for_the_same_machine_and_call_only(make):
    access = make()
    let_in(access, claims(), HERE)
    assert not access.remembered(claims(), AWAY)
    assert not access.remembered(claims(Scope.OUTCOMES), HERE)
    assert not access.remembered(claims(x_forwarded_for="1.2.3.4"), HERE)


def test_what_is_remembered_has_an_end(make):
    access = make()
    for n in range(5_000):
        let_in(access, claims(host=f"localhost:{n}"))
        with pytest.raises(Unauthorized):
            access.admit(claims(), AWAY)
    let_in(access, claims(host="localhost:" + "1" * 5_000))
    assert all(len(one) <= 1_024 for one in access._passes)
    assert not access._passes[False]


def test_a_store_that_breaks_closes_its_keys_and_not_that_of_the_admin(make, tmp_path, caplog):
    access = make(keys=[("shop", "sk_shop", (Scope.SCORE,), {})], auth="required", admin_key=ADMIN_KEY)
    path = KeyStore(tmp_path).path
    kept = path.read_bytes()
    path.write_bytes(b"{")
    asyncio.run(access.look_for_keys({}))
    assert "damaged" in caplog.text
    with pytest.raises(Unauthorized):
        access.admit(claims(key="sk_shop"), HERE)
    assert let_in(access, claims(key=ADMIN_KEY)).name == "admin-key"
    path.write_bytes(kept)
    asyncio.run(access.look_for_keys({}))
    assert let_in(access, claims(key="sk_shop")).name == "shop"


async def broken(*_):
    raise ValueError("not one of ours")


def test_a_key_that_is_revoked_is_refused_though_the_audit_cannot_be_written(make, tmp_path, caplog):
    """Whatever the fault is, the keys are looked for again and again."""
    access, store = make(keys=[("shop", "sk_shop", (Scope.SCORE,), {})]), KeyStore(tmp_path)
    change = Change("user ann", "command line", "keys create", "shop", "[]", "[]", 7)
    store.change(lambda ring: ring.noting(change))

    async def run():
        following = asyncio.create_task(access.follow({"": broken}))
        await asyncio.sleep(0.2)
        assert let_in(access, claims(key="sk_shop")).name == "shop"
        store.change(lambda ring: ring.without("shop"))
        await asyncio.sleep(2 * access_module.LOOK_EVERY_S)
        assert not following.done()
        following.cancel()

    asyncio.run(run())
    with pytest.raises(Unauthorized):
        access.admit(claims(key="sk_shop"), HERE)
    assert "not one of ours" in caplog.text
    assert store.read().changes == (change,)


@pytest.mark.parametrize("fault", [OSError(5, "broken"), ValueError("broken"), MemoryError()], ids=repr)
def test_while_keys_cannot_be_read_for_whatever_reason_none_is_good(make, monkeypatch, fault):
    access = make(admin_key=ADMIN_KEY, keys=[("shop", "sk_shop", (Scope.SCORE,), {})])
    assert let_in(access, claims(key="sk_shop")).name == "shop"

    def stamp(_store):
        raise fault

    with monkeypatch.context() as patched:
        patched.setattr(KeyStore, "stamp", stamp)
        asyncio.run(access.look_for_keys({}))
        with pytest.raises(Unauthorized):
            access.admit(claims(key="sk_shop"), HERE)
        assert let_in(access, claims(key=ADMIN_KEY)).name == "admin-key"
    asyncio.run(access.look_for_keys({}))
    assert let_in(access, claims(key="sk_shop")).name == "shop"


def test_changes_of_keys_are_written_down_once(make, tmp_path):
    access, written = make(), []
    change = Change("user ann", "command line", "keys create", "shop", "[]", "[]", 7)
    KeyStore(tmp_path).change(lambda ring: ring.noting(change))

    async def audit(changes):
        written.extend(changes)

    for _ in range(3):
        asyncio.run(access.look_for_keys({"": audit}))
    assert written == [change]
    assert KeyStore(tmp_path).read().changes == ()


@pytest.mark.parametrize(
    ("method", "path", "scope"),
    [
        ("POST", "/v1/score", "score"), ("POST", "/predict", "score"), ("POST", "/v1/outcomes", "outcomes"),
        ("GET", "/v1/decisions", "read"), ("GET", "/v1/decisions/a/b", "read"), ("GET", "/metrics/prom", "read"),
        ("GET", "/health", "read"), ("GET", "/docs", "read"), ("GET", "/openapi.json", "read"), ("GET", "/", "read"),
        ("GET", "/admin/audit", "admin"), ("GET", "/admin/version", "operate"), ("POST", "/admin/thresholds", "rules"),
        ("POST", "/v1/decisions/t1/result", "outcomes"), ("POST", "/v1/decisions", "admin"), ("POST", "/v1/decisions/search", "read"),
        ("POST", "/v1/decisions/search/result", "outcomes"), ("POST", "/v1/decisions/search-1/result", "outcomes"), ("PUT", "/v2/decisions", "admin"), ("GET", "/health/live/", "read"), ("GET", "//health/live", "read"),
        ("GET", "/health/ready", None), ("HEAD", "/health/live", None),
    ],
)  # fmt: skip
def test_every_call_has_its_scope_and_an_unknown_one_is_closed(method, path, scope):
    assert needed_scope(method, path) == scope
