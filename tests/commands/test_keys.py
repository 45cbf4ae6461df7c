"""`sentinel keys` and `sentinel audit`: what they print, what they refuse, and what is written down."""

import json
import re

import pytest
from typer.testing import CliRunner

from sentinel.cli import app
from sentinel.record.applied import HomeDeployment, log_folder
from sentinel.transport.access.keys import digest_of
from sentinel.transport.access.store import KeyStore


@pytest.fixture
def home(tmp_path):
    return tmp_path / "home"


@pytest.fixture
def run(home):
    def running(*arguments, code=0, **environment):
        done = CliRunner().invoke(app, [*arguments, "--home", str(home)], env=environment)
        assert done.exit_code == code, (done.exit_code, done.output, done.exception)
        return done

    return running


def told(done):
    return json.loads(done.stdout)


def test_a_key_is_shown_once_alone_on_standard_output(run, home):
    done = run("keys", "create", "shop", "--scopes", "score,outcomes")
    assert re.fullmatch(r"sk_[A-Za-z0-9_-]{43}\n", done.stdout)
    assert done.stdout.strip() not in done.stderr
    (kept,) = KeyStore(home).read().keys
    assert kept.sha256 == digest_of(done.stdout.strip())
    for shown in (run("keys", "list"), run("keys", "list", "--json"), run("audit", "--json")):
        assert done.stdout.strip() not in shown.output
        assert kept.sha256 not in shown.output


def test_a_key_without_an_end_is_good_until_it_is_revoked(run):
    line, _ = run(
        "keys", "create", "a-name-of-a-shop-in-a-far-country", "-s", "score", "--expires", "never"
    ).stderr.split("\n")
    assert line.endswith("for ever. It is shown this once:"), "in one line, to be copied"
    assert "until it is revoked" in run("keys", "list").stderr


def test_what_a_key_is_for_is_kept_and_listed(run):
    made = told(
        run(
            "keys",
            "create",
            "shop",
            "-s",
            "read, score",
            "--expires",
            "1h",
            "--rate",
            "5",
            "--source",
            "bank",
            "--json",
        )
    )
    (listed,) = told(run("keys", "list", "--json"))
    assert listed == {name: value for name, value in made.items() if name != "key"}
    assert (listed["scopes"], listed["source"], listed["rate"]) == (["score", "read"], "bank", 5.0)
    assert told(run("keys", "create", "ever", "-s", "read", "--expires", "never", "--json"))["expires"] is None


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["shop", "--scopes", "everything"], "'everything' is no scope; give some of score, outcomes"),
        (["shop", "--scopes", ","], "a key needs a scope"),
        (["a b", "--scopes", "score"], "letters, digits"),
        (["operator", "--scopes", "score"], "another name"),
        (["shop", "--scopes", "score", "--rate", "0"], "above 0"),
        (["shop", "--scopes", "score", "--rate", "nan"], "above 0"),
        (["shop", "--scopes", "score", "--expires", "soon"], "is no duration"),
    ],
)
def test_what_cannot_be_meant_is_said_and_makes_no_key(run, home, arguments, text):
    said = " ".join(run("keys", "create", *arguments, code=1).stderr.split())
    assert text in said
    assert KeyStore(home).read().keys == ()


def test_rotate_and_revoke(run, home):
    run("keys", "create", "shop", "-s", "score")
    first = told(run("keys", "list", "--json"))[0]
    second = told(run("keys", "rotate", "shop", "--overlap", "1h", "--json"))
    assert second["id"] != first["id"]
    assert [one["id"] for one in told(run("keys", "list", "--json"))] == [first["id"], second["id"]]
    assert told(run("keys", "revoke", first["id"], "--json")) == {"revoked": [first["id"]]}
    assert told(run("keys", "revoke", "shop", "--json")) == {"revoked": [second["id"]]}
    assert "no key 'shop'" in " ".join(run("keys", "revoke", "shop", code=1).stderr.split())
    assert told(run("keys", "list", "--json")) == []


def test_without_a_log_the_audit_waits_beside_the_keys_and_with_one_it_is_in_it(run, home):
    run("keys", "create", "shop", "-s", "score")
    assert not log_folder(home).exists()
    found = told(run("audit", "--json"))
    assert (found["changes"], [one["asked"] for one in found["waiting"]]) == ([], ["shop"])
    assert "not in the log yet" in run("audit").stderr
    HomeDeployment(home).promote("v1")
    run("keys", "revoke", "shop")
    found = told(run("audit", "--json"))
    assert [(one["what"], one["asked"]) for one in found["changes"]] == [
        ("keys revoke", "shop"), ("keys create", "shop"), ("promote", "v1"),
    ]  # fmt: skip
    assert found["waiting"] == []
    assert json.loads(found["changes"][0]["before"])[0]["name"] == "shop"
    page = told(run("audit", "--json", "-n", "1"))
    assert told(run("audit", "--json", "-n", "9", "--cursor", str(page["next"])))["changes"] == found["changes"][1:]


def test_a_change_that_was_refused_is_not_in_the_audit(run):
    run("keys", "create", "shop", "-s", "score")
    run("keys", "create", "shop", "-s", "score", code=1)
    run("keys", "rotate", "nobody", code=1)
    assert len(told(run("audit", "--json"))["waiting"]) == 1


def test_commands_of_a_home_refuse_an_empty_key(run):
    said = " ".join(run("keys", "list", code=1, SENTINEL_ADMIN_KEY="").stderr.split())
    assert "SENTINEL_ADMIN_KEY must be 16 characters" in said
