"""Jars: fetched once, from any repository, and none that is not the one that was listed."""

import functools
import hashlib
import http.server
import threading

import pytest

from services import jars
from services.jars import Jar
from services.service import ServiceFailed

PATH = "org/example/thing/1.0/thing-1.0.jar"


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A repository of Maven with one jar in it; `asked` has the paths that were asked for."""
    root, asked = tmp_path / "repository", []
    (root / PATH).parent.mkdir(parents=True)
    (root / PATH).write_bytes(b"a jar")

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_words):
            asked.append(self.path)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=root))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv(jars.REPOSITORY, f"http://127.0.0.1:{server.server_port}/")
    server.asked = asked
    yield server
    server.shutdown()
    server.server_close()


def jar_of(content: bytes) -> Jar:
    return Jar(hashlib.sha256(content).hexdigest(), PATH)


def test_a_jar_is_fetched_once(repository, tmp_path):
    for _ in range(2):
        jars.fetch([jar_of(b"a jar")], tmp_path / "jars")
    assert (tmp_path / "jars" / "thing-1.0.jar").read_bytes() == b"a jar"
    assert len(repository.asked) == 1


def test_a_jar_that_is_another_than_was_listed_is_refused(repository, tmp_path):
    with pytest.raises(ServiceFailed, match=r"thing-1.0.jar .* not what services lists by checksum"):
        jars.fetch([jar_of(b"the jar that was meant")], tmp_path / "jars")
    assert repository.asked


def test_a_jar_that_was_changed_on_the_disk_is_fetched_again(repository, tmp_path):
    jars.fetch([jar_of(b"a jar")], tmp_path)
    (tmp_path / "thing-1.0.jar").write_bytes(b"half")
    jars.fetch([jar_of(b"a jar")], tmp_path)
    assert (tmp_path / "thing-1.0.jar").read_bytes() == b"a jar"
    assert len(repository.asked) == 2


def test_a_repository_without_it_is_told_with_what_to_set(repository, tmp_path):
    absent = Jar("0" * 64, "org/example/none/1/none-1.jar")
    with pytest.raises(ServiceFailed, match=r"none-1.jar cannot be fetched: .*404.*; set MAVEN_REPOSITORY"):
        jars.fetch([absent], tmp_path)
    assert not list(tmp_path.glob("*.jar"))


def test_maven_is_asked_for_each_jar_by_its_coordinates():
    assert Jar("", PATH).coordinates == ("org.example", "thing", "1.0")
    assert b"<groupId>org.example</groupId><artifactId>thing</artifactId>" in jars._pom_of([Jar("", PATH)])
