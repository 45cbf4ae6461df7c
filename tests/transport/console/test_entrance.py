"""The entrance: who is let in to what, and that no page of others gets anything done."""

import http.client
import json
import socket
from contextlib import suppress
from urllib.parse import parse_qs

import pytest

from sentinel.commands.people import people_of
from sentinel.config import read_settings
from sentinel.events.secrets import is_hidden
from sentinel.record.audit import By
from sentinel.transport.access.scopes import ROLES, Scope
from sentinel.transport.console.doors import PAGES, needed_for
from sentinel.transport.console.entrance import CONTENT_SECURITY_POLICY
from sentinel.transport.console.pages.live import MOST_OF_ONE
from sentinel.transport.console.static_files import sha256_of, vendored
from sentinel.transport.people.people import note
from tests.transport.console.conftest import BY, HOST, PASSWORD, PATIENCE_S, payment, until

EVERY_PAGE = ("/", "/search", "/search.csv", "/try", "/models", "/models/v1", "/decisions/p1", "/admin", "/admin/keys", "/admin/audit",
              "/design", "/password", "/live/events", "/live/newest", "/live/drift", "/again/p1", "/nothing")  # fmt: skip


def test_nothing_but_the_log_in_is_answered_to_strangers(caller):
    stranger = caller()
    for path in EVERY_PAGE:
        status, headers, body = stranger.ask(path)
        assert (status, headers["location"].split("?")[0]) == (303, "/login"), path
        assert "p1" not in body
    assert stranger.ask("/login")[0] == 200
    assert stranger.ask("/live/events", headers={"accept": "text/event-stream"})[0] == 401
    status, headers, _ = stranger.ask("/live/newest", headers={"hx-request": "true"})
    assert (status, headers["hx-redirect"].split("?")[0]) == (401, "/login")


def test_who_leaves_in_the_middle_of_a_form_is_no_fault(caller, site):
    address = site.url.removeprefix("http://")
    port = int(address.rpartition(":")[2])
    head = f"POST /login HTTP/1.1\r\nhost: {address}\r\norigin: {site.url}\r\ncontent-length: 100\r\n"
    form = "content-type: application/x-www-form-urlencoded\r\n\r\nname=a"
    with socket.create_connection((HOST, port), PATIENCE_S) as connection:
        connection.sendall((head + form).encode())
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(1_000):
            pass
    assert caller().ask("/login")[0] == 200
    assert "ClientDisconnect" not in (site.home / "console.log").read_text()


def test_one_comes_back_to_where_one_wanted_to_go_and_nowhere_else(caller):
    one = caller()
    assert one.ask("/search?card=card-1")[1]["location"] == "/login?next=/search%3Fcard%3Dcard-1"
    for to, lands in (
        ("/search?card=card-1", "/search?card=card-1"),
        ("//evil.example", "/"),
        ("https://evil.example/x", "/"),
        ("/\\evil", "/"),
    ):
        status, headers, _ = caller().ask("/login", {"name": "admin", "password": PASSWORD, "next": to})
        assert (status, headers["location"]) == (303, lands)


@pytest.mark.parametrize("role", ["viewer", "analyst", "operator", "admin"])
def test_a_page_needs_what_it_shows(caller, role):
    one = caller()
    one.log_in(role)
    for path in (
        "/",
        "/search",
        "/try",
        "/models",
        "/admin",
        "/admin/keys",
        "/admin/audit",
        "/decisions/p1",
        "/what/is/new",
    ):
        needs = needed_for("GET", path)
        is_allowed = needs in ROLES[role] or role == "admin"
        status, _, body = one.ask(path)
        assert (status == 403) != is_allowed, (path, status)
        if not is_allowed:
            assert f"right &#39;{needs}&#39;" in body
    shown = one.ask("/")[2]
    for page in PAGES:
        assert (f'data-key="{page.key}"' in shown) == (page.needs in ROLES[role] or role == "admin")


def test_who_may_only_look_changes_nothing(caller, site):
    viewer = caller()
    viewer.log_in("viewer")
    token = viewer.csrf()
    before = site.api("/admin/version")
    for path, form in (
        ("/models/promote", {"version": "v2"}), ("/models/shadow", {"version": "v2"}), ("/models/rollback", {}),
        ("/admin/people/add", {"name": "eve", "role": "admin"}), ("/admin/people/role", {"name": "viewer", "role": "admin"}),
        ("/try/send", {"transaction": "{}"}),
    ):  # fmt: skip
        assert viewer.ask(path, form, {"x-csrf-token": token})[0] == 403, path
    assert site.api("/admin/version") == before
    people = people_of(read_settings({"home": site.home}, {}))
    assert people.named("viewer").role == "viewer"
    people.database.close()


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"x-csrf-token": "wrong"},
        {"origin": "https://evil.example"},
        {"sec-fetch-site": "cross-site"},
        {"host": "evil.example"},
    ],
)
def test_a_form_of_others_gets_nothing_done(caller, site, headers):
    admin = caller()
    admin.log_in("admin")
    bears = {} if "x-csrf-token" in headers or not headers else {"x-csrf-token": admin.csrf()}
    status, _, _ = admin.ask("/admin/people/add", {"name": "eve", "role": "admin"}, bears | headers)
    assert status == 403
    people = people_of(read_settings({"home": site.home}, {}))
    assert "eve" not in [one.name for one in people.everyone()]
    people.database.close()
    assert admin.ask("/login", {"name": "admin", "password": PASSWORD}, {"sec-fetch-site": "cross-site"})[0] == 403


def test_the_token_of_another_session_is_none(caller):
    one, other = caller(), caller()
    one.log_in("admin")
    other.log_in("admin")
    assert one.ask("/logout", {}, {"x-csrf-token": other.csrf()})[0] == 403
    assert one.ask("/logout", {}, {"x-csrf-token": one.csrf()})[0] == 200
    assert one.ask("/")[0] == 303
    assert other.ask("/")[0] == 200


def test_every_answer_says_what_a_page_may_do(caller):
    one = caller()
    for path in ("/login", "/", "/nothing", "/static/x/console.css", "/static/x/nothing"):
        headers = one.ask(path)[1]
        assert headers["content-security-policy"] == CONTENT_SECURITY_POLICY, path
        assert headers["x-content-type-options"] == "nosniff"
    assert "unsafe" not in CONTENT_SECURITY_POLICY
    _, headers, _ = one.log_in("admin")
    cookie = headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert one.ask("/")[1]["cache-control"] == "no-store"


def test_a_large_form_and_a_form_without_an_end_are_refused(caller):
    assert caller().ask("/login", {"name": "x" * 200_000, "password": "y"})[0] == 413
    assert caller().ask("/login", {"name": "x" * 5_000, "password": "y"})[0] == 422


def test_a_form_in_pieces_is_refused_whatever_length_it_names(site):
    head = b"POST /login HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/x-www-form-urlencoded\r\n"
    for length in (b"", b"Content-Length: 5\r\n"):
        with socket.create_connection((HOST, site.console.port), PATIENCE_S) as connection:
            connection.sendall(head + length + b"Transfer-Encoding: chunked\r\n\r\n5\r\nname=\r\n0\r\n\r\n")
            assert connection.recv(64).startswith(b"HTTP/1.1 413 ")


def test_a_name_and_a_wrong_password_tell_nothing(caller):
    known, unknown = caller().log_in("analyst", "not the password"), caller().log_in("nobody-here", "not the password")
    assert known[0] == unknown[0] == 401
    assert known[2].replace("analyst", "?") == unknown[2].replace("nobody-here", "?")


def test_a_first_password_is_changed_before_anything_else(caller, site):
    people = people_of(read_settings({"home": site.home}, {}))
    people.add("novice", "admin", PASSWORD, BY, 1)
    novice = caller()
    assert novice.log_in("novice")[1]["location"] == "/password"
    assert novice.ask("/")[1]["location"] == "/password"
    bears = {"x-csrf-token": novice.csrf()}
    new = "other words that last"
    for wrong in ({"old": "no", "new": new, "again": new}, {"old": PASSWORD, "new": new, "again": "x"},
                  {"old": PASSWORD, "new": "short", "again": "short"}, {"old": PASSWORD, "new": PASSWORD, "again": PASSWORD}):  # fmt: skip
        assert novice.ask("/password", wrong, bears)[0] in (401, 422)
        assert people.named("novice").must_change
    assert novice.ask("/password", {"old": PASSWORD, "new": new, "again": new}, bears)[0] == 200
    assert novice.ask("/")[0] == 200
    people.set_disabled("novice", True, BY, 2)
    assert novice.ask("/")[0] == 303
    people.database.close()


def test_what_people_do_and_look_at_is_in_the_log_under_their_name(caller, site):
    analyst = caller()
    analyst.log_in("analyst")
    analyst.ask("/decisions/p7")
    analyst.ask("/search?card=card-3")

    def audited():
        found = site.api("/admin/audit?limit=100")["changes"]
        return {(one["who"].split()[0], one["what"], one["asked"]) for one in found}

    wanted = {("analyst", "console: look at a decision", "p7"), ("analyst", "console: search", "card=card-3")}
    until(lambda: wanted <= audited())
    assert ("analyst", "console: log in", "") in audited()
    assert PASSWORD not in json.dumps(site.api("/admin/audit?limit=500"))


def test_the_files_of_others_are_those_that_were_taken():
    assert len(vendored()) == 7
    for name, sha256 in vendored().items():
        assert sha256_of(name) == sha256, name


def test_every_scope_of_the_table_is_one_of_the_doors():
    assert {page.needs for page in PAGES} <= set(Scope)


def test_no_secret_and_no_card_number_of_a_search_stays_in_the_audit(caller, site):
    admin = caller()
    admin.log_in("admin")
    status, headers, _ = admin.ask("/search?card=4111+1111+1111+1111&least=12")
    assert (status, "4111" in headers["location"]) == (303, False)
    assert admin.ask(headers["location"])[0] == 200
    admin.ask("/search.csv?card=4111%C2%A01111%C2%A01111%C2%A01111&least=13")
    admin.ask("/search?model=4111+1111+1111+1111&least=14")

    def asked():
        found = site.api("/admin/audit?limit=100")["changes"]
        return [parse_qs(one["asked"]) for one in found if one["what"].startswith("console: search")]

    until(lambda: {"12", "13", "14"} <= {one.get("least", [""])[0] for one in asked()})
    assert "41111111" not in json.dumps(asked()).replace(" ", "").replace("-", "").replace("\\u00a0", "")
    assert all(is_hidden(one["card"][0]) for one in asked() if one.get("least", [""])[0] in ("12", "13"))


def test_long_searches_hold_up_no_entry_of_the_audit(caller, site):
    analyst = caller()
    analyst.log_in("analyst")
    people = people_of(read_settings({"home": site.home}, {}))
    by = By("analyst", "here", "console: search", "x" * 1_000)
    with people.database.writing() as writer:
        for _ in range(100):
            note(writer, by, None, None, 1)
    analyst.ask("/decisions/p9")
    until(lambda: people.n_not_audited() == 0)
    people.database.close()
    assert "p9" in [one["asked"] for one in site.api("/admin/audit?limit=500")["changes"]]


def test_a_transaction_whose_id_ends_like_a_page_has_its_receipt(caller, site):
    site.api("/v1/score", payment(70, transaction_id="p9/again", amount=77.25))
    one = caller()
    one.log_in("viewer")
    assert "77.25" in one.ask("/decisions/p9%2Fagain")[2]
    assert "77.25" not in one.ask("/again/p9?then=0.5&by=v1")[2]


@pytest.mark.parametrize(
    "sent", ['{"a":"\\ud800"}', "[" * 40_000, '{"amount": 1e999}', '{"a":' * 900 + "1" + "}" * 900]
)
def test_what_is_no_transaction_is_told_so(caller, sent):
    admin = caller()
    admin.log_in("admin")
    status, _, body = admin.ask("/try/send", {"transaction": sent}, {"x-csrf-token": admin.csrf()})
    assert status in (400, 422), body


def test_no_address_of_ours_leads_to_one_without_tls(caller):
    admin = caller()
    admin.log_in("admin")
    status, headers, _ = admin.ask("/admin/")
    assert (status, headers.get("location")) == (404, None)


def test_connections_that_only_wait_are_ended(site):
    form = b"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 9\r\n\r\nna"
    begun = (
        b"",
        b"GET /login HTTP/1.1\r\nHost: 127",
        b"POST /login HTTP/1.1\r\nHost: 127.0.0.1\r\n" + form,
    )
    connections = [socket.create_connection((HOST, site.console.port), PATIENCE_S) for _ in begun]
    for connection, head in zip(connections, begun, strict=True):
        connection.sendall(head)
    for connection in connections:
        with connection, suppress(ConnectionResetError):
            assert connection.recv(1_000) == b""


def test_a_head_without_an_end_takes_no_memory(site):
    with socket.create_connection((HOST, site.console.port), PATIENCE_S) as connection:
        connection.sendall(b"GET /login HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Long: ")
        with pytest.raises(OSError, match=r"reset|pipe"):
            connection.sendall(b"a" * 64_000_000)


def test_nobody_takes_the_places_of_all_who_watch(caller, site):
    viewer, other = caller(), caller()
    viewer.log_in("viewer")
    other.log_in("analyst")
    watching = []
    try:
        for _ in range(MOST_OF_ONE + 1):
            connection = http.client.HTTPConnection(HOST, site.console.port, timeout=PATIENCE_S)
            watching.append(connection)
            cookie = "; ".join(f"{one.name}={one.value}" for one in viewer.cookies)
            connection.request("GET", "/live/events", headers={"cookie": cookie, "accept": "text/event-stream"})
            answer = connection.getresponse()
            if answer.status == 200:
                answer.readline()
        assert (answer.status, len(watching)) == (503, MOST_OF_ONE + 1)
        connection = http.client.HTTPConnection(HOST, site.console.port, timeout=PATIENCE_S)
        watching.append(connection)
        cookie = "; ".join(f"{one.name}={one.value}" for one in other.cookies)
        connection.request("GET", "/live/events", headers={"cookie": cookie})
        assert connection.getresponse().status == 200
    finally:
        for connection in watching:
            connection.close()
