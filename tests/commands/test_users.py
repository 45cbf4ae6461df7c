"""`sentinel users`: people are made, changed and listed on the command line, and the audit of the log has it."""

import json
import subprocess
import sys

import pytest

from sentinel.commands.people import add_person, disable_person, list_people, renew_password, set_role
from sentinel.commands.server_process import ServerProcess, free_port
from sentinel.config import read_settings
from sentinel.errors import Conflict
from sentinel.record.applied import HomeDeployment

HOST = "127.0.0.1"


@pytest.fixture
def home(shop_home, tmp_path):
    import shutil

    return shutil.copytree(shop_home, tmp_path / "home")


def sentinel(home, *command, code=0):
    done = subprocess.run(
        [sys.executable, "-m", "sentinel", *command, "--home", str(home)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == code, done.stderr
    return done


def test_a_person_is_made_listed_and_changed_and_the_log_has_it(home):
    made = sentinel(home, "users", "add", "Ana", "--role", "analyst")
    password = made.stdout.strip()
    assert len(password) == 20
    assert password not in made.stderr
    assert json.loads(sentinel(home, "users", "list", "--json").stdout)[0]["name"] == "ana"
    sentinel(home, "users", "role", "ana", "admin")
    assert "last admin" in sentinel(home, "users", "disable", "ana", code=1).stderr
    assert "is no role" in sentinel(home, "users", "role", "ana", "king", code=1).stderr
    entries = HomeDeployment(home).audit(5).changes
    assert [one.what for one in entries[:2]] == ["users role", "users add"]
    assert '"admin"' in entries[0].after
    assert password not in repr(entries)


def test_while_a_server_owns_the_log_it_writes_the_entry(home):
    server = ServerProcess(home, HOST, free_port(HOST))
    server.start()
    try:
        settings = read_settings({"home": home}, {})
        made = add_person(settings, "ana", "viewer")
        assert made.password
        assert renew_password(settings, "ana").password != made.password
        set_role(settings, "ana", "operator")
        disable_person(settings, "ana")
        with pytest.raises(Conflict):
            add_person(settings, "ana", "viewer")
        assert [(one.name, one.role, one.is_disabled) for one in list_people(settings)] == [("ana", "operator", True)]
    finally:
        server.stop()
    entries = HomeDeployment(home).audit(4).changes
    assert [one.what for one in entries] == ["users disable", "users role", "users password", "users add"]
    assert all(one.who.endswith("(by operator)") for one in entries)


def test_without_a_log_what_was_changed_waits(tmp_path):
    settings = read_settings({"home": tmp_path / "fresh"}, {})
    add_person(settings, "ana", "admin")
    from sentinel.commands.people import people_of

    people = people_of(settings)
    assert people.n_not_audited() == 1
    people.database.close()
