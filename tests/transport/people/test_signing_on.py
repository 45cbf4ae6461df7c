"""Signing on by a provider: what it says counts, and nothing else does."""

import base64
import hashlib
import http.server
import json
import threading
from urllib.parse import parse_qs, urlsplit

import pytest
from joserfc import jwk, jwt

from sentinel.errors import Conflict, Forbidden, InvalidDefinition, RateLimited, Unauthorized
from sentinel.record.audit import By
from sentinel.transport.access.claims import Peer
from sentinel.transport.people.database import PeopleDatabase
from sentinel.transport.people.id_tokens import claims_of
from sentinel.transport.people.people import People
from sentinel.transport.people.provider import Asked, Client, Provider, ProviderAway
from sentinel.transport.people.signing_on import LASTS_S, ClaimsMap, SignOn

NOW_US = 1_790_000_000_000_000
NOW_S = NOW_US // 1_000_000
BY = By("the test", "here", "a test")
HERE = Peer.of(("192.0.2.7", 1))
CLIENT = "sentinel-console"
ASKED = Asked("a", "b", "c")


class OwnProvider:
    """A provider on a port: it checks PKCE, client and redirect address as RFC 6749 and 7636 ask, and signs."""

    def __init__(self):
        self.key = jwk.RSAKey.generate_key(2048, {"kid": "one", "alg": "RS256"})
        self.codes, self.more, self.signs = {}, {}, None
        provider = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self._answer(200, provider.metadata() if "well-known" in self.path else provider.keys())

            def do_POST(self):
                form = parse_qs(self.rfile.read(int(self.headers["content-length"])).decode())
                self._answer(*provider.token({name: one[0] for name, one in form.items()}, self.headers))

            def _answer(self, status, body):
                raw = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("content-length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)

            def log_message(self, *_):
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.issuer = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()

    def close(self):
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def metadata(self):
        found = {"issuer": self.issuer, "jwks_uri": f"{self.issuer}/keys", "token_endpoint": f"{self.issuer}/token"}
        return found | {"authorization_endpoint": f"{self.issuer}/authorize", **self.more}

    def keys(self):
        return jwk.KeySet([self.key]).as_dict(private=False)

    def approve(self, address, **claims):
        """What a person who logs in brings back: the query of the way back."""
        asked = {name: one[0] for name, one in parse_qs(urlsplit(address).query).items()}
        assert (asked["response_type"], asked["code_challenge_method"]) == ("code", "S256")
        code = f"code-{len(self.codes)}"
        said = {"iss": self.issuer, "aud": CLIENT, "sub": "s-1", "nonce": asked["nonce"], "iat": NOW_S, "exp": NOW_S + 60,
                "email": "Ana@bank.example", "groups": ["fraud-team"]}  # fmt: skip
        self.codes[code] = asked, {name: one for name, one in (said | claims).items() if one is not None}
        return {"code": code, "state": asked["state"]}

    def token(self, form, headers):
        asked, said = self.codes.pop(form["code"], (None, None))
        pair = base64.b64encode(f"{CLIENT}:a%20secret".encode()).decode()
        digest = hashlib.sha256(form["code_verifier"].encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        if asked is None or challenge != asked["code_challenge"] or form["redirect_uri"] != asked["redirect_uri"]:
            return 400, {"error": "invalid_grant"}
        if headers["authorization"] != f"Basic {pair}":
            return 401, {"error": "invalid_client"}
        sign = self.signs or (lambda said: jwt.encode({"alg": "RS256", "kid": self.key.kid}, said, self.key))
        return 200, {"id_token": sign(said), "access_token": "x", "token_type": "Bearer"}


@pytest.fixture
def provider():
    made = OwnProvider()
    yield made
    made.close()


@pytest.fixture
def people(tmp_path):
    made = People(PeopleDatabase(tmp_path / "home"))
    yield made
    made.database.close()


@pytest.fixture
def sign_on(provider, people):
    client = Client(provider.issuer, CLIENT, "a secret", "openid email", "http://127.0.0.1:8080/login/provider/back")
    claims = ClaimsMap.of("email", "groups", ["fraud-team:analyst", "fraud-admins:admin", "ops:operator"])
    return SignOn(Provider(client, claims_of), claims, people)


def logged_in(sign_on, provider, **claims):
    query = provider.approve(sign_on.begin("browser", "/search", "10.0.0.1", NOW_S), **claims)
    return sign_on.come_back(query, "browser", HERE, NOW_US)


def test_who_the_provider_vouches_for_comes_in_with_the_role_that_follows(sign_on, provider, people):
    person, go_on = logged_in(sign_on, provider)
    assert (person.name, person.role, go_on) == ("ana@bank.example", "analyst", "/search")
    assert people.comes_by_provider("ana@bank.example")
    person, _ = logged_in(sign_on, provider, groups=["fraud-team", "ops"])
    assert person.role == "operator"  # the one with the most rights
    person, _ = logged_in(sign_on, provider, email="new-name@bank.example")
    assert person.name == "ana@bank.example"  # known by the subject
    assert [one.name for one in people.everyone()] == ["ana@bank.example"]


def test_without_a_role_there_is_no_entrance_and_the_role_is_that_of_today(sign_on, provider, people):
    for groups in (["others"], [], None, "others", {"fraud-team": 1}):
        with pytest.raises(Forbidden, match="no role here"):
            logged_in(sign_on, provider, groups=groups)
    assert people.everyone() == []
    assert logged_in(sign_on, provider, groups="fraud-admins")[0].role == "admin"
    assert logged_in(sign_on, provider)[0].role == "analyst"  # though there was no other admin


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": "http://evil.example"}, {"aud": "another-client"}, {"aud": [CLIENT, "another"]}, {"aud": None},
        {"aud": [CLIENT], "azp": "another"}, {"nonce": "of another log-in"}, {"nonce": None}, {"exp": NOW_S - 61},
        {"exp": None}, {"iat": NOW_S + 61}, {"sub": None}, {"sub": ""}, {"sub": 7}, {"sub": "x" * 256},
    ],
)  # fmt: skip
def test_a_token_for_something_else_is_refused(sign_on, provider, people, claims):
    with pytest.raises(Unauthorized, match="not for this log-in"):
        logged_in(sign_on, provider, **claims)
    assert people.everyone() == []


def test_what_another_has_signed_is_refused(sign_on, provider, people):
    other = jwk.RSAKey.generate_key(2048, {"kid": "one"})
    known = jwk.OctKey.import_key(json.dumps(provider.keys()))  # a secret that everybody knows

    def unsigned(said):
        parts = [
            base64.urlsafe_b64encode(json.dumps(one).encode()).rstrip(b"=").decode() for one in ({"alg": "none"}, said)
        ]
        return ".".join([*parts, ""])

    for sign in (
        lambda said: jwt.encode({"alg": "RS256", "kid": "one"}, said, other),
        lambda said: jwt.encode({"alg": "HS256"}, said, known),
        unsigned,
        lambda _: "no token",
    ):
        provider.signs = sign
        with pytest.raises(Unauthorized, match="cannot be verified"):
            logged_in(sign_on, provider)
    assert people.everyone() == []


def test_keys_that_were_changed_are_asked_for_anew(sign_on, provider):
    logged_in(sign_on, provider)
    for kid in ("two", "one"):  # one of them with a name that was used before
        provider.key = jwk.RSAKey.generate_key(2048, {"kid": kid, "alg": "RS256"})
        assert logged_in(sign_on, provider)[0].name == "ana@bank.example"


def test_a_log_in_comes_back_once_in_time_and_to_the_browser_that_began_it(sign_on, provider):
    query = provider.approve(sign_on.begin("browser", "/", "10.0.0.1", NOW_S))
    with pytest.raises(Unauthorized, match="begun elsewhere"):
        sign_on.come_back(query, "another browser", HERE, NOW_US)
    with pytest.raises(Unauthorized, match="begun elsewhere"):
        sign_on.come_back(query, "browser", HERE, NOW_US)  # its one chance is gone
    query = provider.approve(sign_on.begin("browser", "/", "10.0.0.1", NOW_S))
    with pytest.raises(Unauthorized, match="begun elsewhere"):
        sign_on.come_back(query | {"state": "made up"}, "browser", HERE, NOW_US)
    with pytest.raises(Unauthorized, match="Another provider"):
        sign_on.come_back(query | {"iss": "http://evil.example"}, "browser", HERE, NOW_US)
    query = provider.approve(sign_on.begin("browser", "/", "10.0.0.1", NOW_S))
    with pytest.raises(Unauthorized, match="long ago"):
        sign_on.come_back(query, "browser", HERE, NOW_US + (LASTS_S + 1) * 1_000_000)


def test_a_code_that_was_taken_elsewhere_is_of_no_use_without_its_verifier(sign_on, provider):
    stolen = provider.approve(sign_on.begin("of the victim", "/", "10.0.0.1", NOW_S))
    own = provider.approve(sign_on.begin("of the thief", "/", "10.0.0.2", NOW_S))
    with pytest.raises(Unauthorized, match="invalid_grant"):
        sign_on.come_back(own | {"code": stolen["code"]}, "of the thief", HERE, NOW_US)


def test_a_name_that_somebody_else_has_is_not_taken_over(sign_on, provider, people):
    people.add("ana@bank.example", "admin", "four words that last", BY, 1)
    with pytest.raises(Forbidden, match="somebody else called"):
        logged_in(sign_on, provider)
    people.add("root", "admin", "four words that last", BY, 1)
    logged_in(sign_on, provider, sub="s-2", email="ben@bank.example")
    with pytest.raises(Forbidden, match="somebody else called"):
        logged_in(sign_on, provider, sub="s-3", email="ben@bank.example")


def test_who_comes_by_the_provider_has_no_password_here_and_can_be_kept_out(sign_on, provider, people):
    people.add("root", "admin", "four words that last", BY, 1)
    name = logged_in(sign_on, provider)[0].name
    assert not people.has_password(name, "")
    with pytest.raises(Conflict, match="by the provider"):
        people.set_password(name, "four words that last", BY, 1, must_change=False)
    people.set_disabled(name, True, BY, 1)
    with pytest.raises(Forbidden, match="let in no more"):
        logged_in(sign_on, provider)


def test_an_address_that_nobody_has_verified_is_no_name(sign_on, provider):
    with pytest.raises(Forbidden, match="not verified"):
        logged_in(sign_on, provider, email_verified=False)
    with pytest.raises(Forbidden, match="does not say your email"):
        logged_in(sign_on, provider, email=None)


def test_many_that_are_refused_have_to_wait_and_each_refusal_is_audited(sign_on, provider, people):
    for _ in range(10):
        with pytest.raises(Forbidden):
            logged_in(sign_on, provider, groups=[])
    with pytest.raises(RateLimited):
        logged_in(sign_on, provider)
    refused = [change for _, change in people.not_audited() if change.after == "refused"]
    assert len(refused) == 10


def test_a_provider_that_is_none_or_speaks_in_the_open_says_what_is_wrong(provider, people):
    def asked(**more):
        provider.more = more
        Provider(Client(provider.issuer, CLIENT, None, "openid", "http://x"), claims_of).log_in_address(ASKED)

    with pytest.raises(ProviderAway, match="calls itself"):
        asked(issuer="http://evil.example")
    with pytest.raises(ProviderAway, match="not https"):
        asked(authorization_endpoint="http://evil.example/authorize")
    with pytest.raises(ProviderAway, match="names no authorization_endpoint"):
        asked(authorization_endpoint=None)
    with pytest.raises(ProviderAway, match="does not answer"):
        Provider(Client("http://127.0.0.1:9", CLIENT, None, "openid", "http://x"), claims_of).log_in_address(ASKED)


def test_roles_that_there_are_not_are_refused_at_the_start():
    for given in (["fraud-team:boss"], ["analyst"], [":analyst"]):
        with pytest.raises(InvalidDefinition, match="SENTINEL_OIDC_ROLES"):
            ClaimsMap.of("email", "groups", given)
    found = ClaimsMap.of("email", "realm_access.roles", ["urn:fraud:team:analyst"])
    assert found.role_of({"realm_access": {"roles": ["urn:fraud:team"]}}) == "analyst"


def test_logging_out_leads_to_the_provider_for_those_who_came_from_there(sign_on, provider, people):
    people.add("root", "admin", "four words that last", BY, 1)
    provider.more = {"end_session_endpoint": f"{provider.issuer}/bye"}
    name = logged_in(sign_on, provider)[0].name
    address = sign_on.log_out_address(name, "http://127.0.0.1:8080/login")
    assert address.startswith(f"{provider.issuer}/bye?client_id={CLIENT}&post_logout_redirect_uri=")
    assert sign_on.log_out_address("root", "http://127.0.0.1:8080/login") is None


def test_nobody_waits_anew_for_a_provider_that_has_just_not_answered(provider, monkeypatch):
    one = Provider(Client(provider.issuer, CLIENT, None, "openid", "http://x"), claims_of)
    asked, now_s = [], [100.0]

    def away(address, *_):
        asked.append(address)
        raise ProviderAway("it does not answer")

    monkeypatch.setattr("sentinel.transport.people.provider.time.monotonic", lambda: now_s[0])
    with monkeypatch.context() as while_away:
        while_away.setattr(one, "_ask", away)
        for now_s[0] in (100.0, 101.0, 104.9, 105.1):
            with pytest.raises(ProviderAway, match="it does not answer"):
                one.log_in_address(ASKED)
        assert len(asked) == 2
    now_s[0] = 200.0
    assert one.log_in_address(ASKED).startswith(provider.issuer)


def test_log_ins_that_one_network_begins_and_leaves_take_the_place_of_nobody_else(sign_on, provider):
    query = provider.approve(sign_on.begin("of ana", "/", "10.0.0.1", NOW_S))
    for _ in range(1_000):
        sign_on.begin("of a flood", "/", "10.0.0.2", NOW_S)
    newest = provider.approve(
        sign_on.begin("of bob", "/", "10.0.0.2", NOW_S)
    )  # an office, or a proxy before the console
    assert sign_on.come_back(query, "of ana", HERE, NOW_US)[0].name == "ana@bank.example"
    assert sign_on.come_back(newest, "of bob", HERE, NOW_US)[0].name == "ana@bank.example"
