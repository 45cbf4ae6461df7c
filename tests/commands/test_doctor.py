"""`sentinel doctor` names what is wrong before it costs anything."""

import errno
import os
import secrets
import shutil
import threading
import time
from contextlib import closing
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from sentinel.cli import app
from sentinel.commands.doctor import examine
from sentinel.commands.keys import create_key, rotate_key
from sentinel.commands.server_process import free_port
from sentinel.config import Settings
from sentinel.model.bundle import read_manifest
from sentinel.objects.s3_objects import S3Objects
from sentinel.record.applied import log_folder
from sentinel.record.file_log import FileLog
from sentinel.record.log import Kind
from sentinel.record.online.keepers import KeeperStore
from sentinel.record.online.layout import JOB
from sentinel.record.online.place import open_online


def of(settings, what):
    (found,) = [one for one in examine(settings) if one.what == what]
    return found


def make_key(settings, name, expires):
    create_key(settings, name, "score", expires, None, None)


def test_a_log_that_cannot_leave_before_its_ids_is_named(tmp_path):
    (found,) = [one for one in examine(Settings(home=tmp_path, keep_log="30d")) if one.what == "log"]
    assert not found.ok
    assert "make SENTINEL_REMEMBER_IDS no longer than SENTINEL_KEEP_LOG" in found.found


def test_a_slow_disk_is_a_warning_with_its_figure_and_one_that_takes_nothing_is_an_error(tmp_path, monkeypatch):
    settings = Settings(home=tmp_path)
    now_s = iter(n * 0.030 for n in range(1_000))
    monkeypatch.setattr("sentinel.commands.doctor.machine.time.perf_counter", lambda: next(now_s))
    found = of(settings, "disk")
    assert (found.ok, found.warns) == (True, True)
    assert "a durable write takes 30.00 ms" in found.found

    def full(_descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("sentinel.commands.doctor.machine.os.fsync", full)
    found = of(settings, "disk")
    assert (found.ok, found.warns) == (False, False)
    assert "No space left on device; free or repair the disk" in found.found


def test_keys_that_are_well_are_counted_and_those_that_end_soon_are_named(tmp_path):
    settings = Settings(home=tmp_path)
    assert of(settings, "keys").found == "none yet"
    make_key(settings, "for-years", "900d")
    make_key(settings, "for-days", "13d")
    make_key(settings, "followed", "13d")
    rotate_key(settings, "followed", "1d")  # its successor has 13 days as well
    make_key(settings, "for-ever", "never")
    found = of(settings, "keys")
    assert found.ok
    assert found.found.startswith("5 good, 0 over; for-days ends at 20")
    assert "`sentinel keys rotate for-days`" in found.found
    assert found.found.count("rotate followed") == 1
    assert "for-years" not in found.found
    assert "for-ever" not in found.found


def test_keys_that_nobody_may_use_are_named(tmp_path):
    settings = Settings(home=tmp_path)
    make_key(settings, "shop", "30d")
    folder = tmp_path / "access"
    for path, mode, said in ((folder, 0o750, "chmod 700"), (folder / "keys.json", 0o640, "rotate the keys")):
        was = path.stat().st_mode
        path.chmod(mode)
        found = of(settings, "keys")
        assert not found.ok
        assert said in found.found
        path.chmod(was)
    (folder / "keys.json").write_text("{")
    found = of(settings, "keys")
    assert not found.ok
    assert "is damaged" in found.found


@pytest.mark.parametrize(("more", "ok"), [({}, False), ({"admin_key": "a-key-of-more-than-16"}, True)])
def test_a_server_of_strangers_without_a_key_is_named(tmp_path, more, ok):
    found = of(Settings(home=tmp_path, host="10.1.2.3", **more), "keys")
    assert found.ok == ok
    assert ok or "every caller of 10.1.2.3 needs one" in found.found


def test_every_detector_and_tenant_of_the_home_is_looked_at(tmp_path, shop_home):
    home = tmp_path / "home"
    shutil.copytree(shop_home, home)
    shutil.copytree(shop_home, home / "detectors" / "wallet")
    shutil.copytree(shop_home, home / "tenants" / "acme")
    found = {one.what: one for one in examine(Settings(home=home))}
    acme, wallet = "of the detector without a name of the tenant 'acme'", "of the detector 'wallet'"
    assert all(found[f"models{named}"].ok for named in ("", f" {wallet}", f" {acme}"))
    assert f"keys {acme}" in found
    assert f"keys {wallet}" not in found
    next((home / "detectors" / "wallet" / "models" / "v1").glob("manifest.json")).write_text("{")
    broken = [one.what for one in examine(Settings(home=home)) if not one.ok and one.what.startswith("models")]
    assert broken == [f"models {wallet}"]


def test_a_warning_is_shown_as_one(tmp_path, shop_home):
    shutil.copytree(shop_home, tmp_path / "home")
    history = of(Settings(home=tmp_path / "home"), "history")
    assert (history.ok, history.warns) == (True, True)  # it ended long ago
    done = CliRunner().invoke(app, ["doctor", "--home", str(tmp_path / "home"), "--port", str(free_port("127.0.0.1"))])
    (line,) = [line for line in done.stderr.splitlines() if " history: " in line]
    assert line.startswith("warn history: the features of v1 look back")


def test_a_folder_that_can_be_no_detector_is_named(tmp_path):
    (tmp_path / "detectors" / "score").mkdir(parents=True)
    found = of(Settings(home=tmp_path), "detectors")
    assert not found.ok
    assert "rename it" in found.found


def test_a_clock_behind_the_log_is_named(tmp_path):
    ahead_us = time.time_ns() // 1000 + 3_600_000_000
    log = FileLog.open(log_folder(tmp_path), ahead_us)
    log.write(Kind.HEARTBEAT, 1, ahead_us, b"")
    log.close()
    found = of(Settings(home=tmp_path), "clock")
    assert not found.ok
    assert "behind the newest entry of the log" in found.found


def postgres_url(running):
    address = sa.make_url(running.url).set(drivername="postgresql", password=running.environment["PGPASSWORD"])
    return address.render_as_string(hide_password=False)


def test_what_is_configured_is_reached_written_to_and_read(tmp_path, service, monkeypatch):
    s3 = service("s3")
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    bucket = f"doctor-{secrets.token_hex(4)}"
    missing = of(Settings(home=tmp_path, models=f"s3://{bucket}"), "S3")
    assert not missing.ok
    assert "no such bucket yet" in missing.found
    S3Objects(f"s3://{bucket}", "SENTINEL_MODELS", os.environ).make()
    settings = Settings(
        home=tmp_path,
        database_url=postgres_url(service("postgres")),
        redis_url=service("redis").environment["REDIS_URL"],
        models=f"s3://{bucket}",
    )
    for what in ("PostgreSQL", "Redis", "S3"):
        found = of(settings, what)
        assert (found.ok, found.warns) == (True, False)
        assert "written and read back" in found.found


@pytest.mark.parametrize(
    ("what", "setting", "address"),
    [
        ("PostgreSQL", "database_url", "postgresql://a:secret-word@127.0.0.1:9/b"),
        ("Redis", "redis_url", "redis://:secret-word@127.0.0.1:9/0"),
    ],
)
def test_what_is_configured_and_away_is_a_failure(tmp_path, what, setting, address):
    settings = Settings(home=tmp_path, **{setting: address})
    found = of(settings, what)
    assert not found.ok
    assert "can be reached" in found.found
    assert "secret-word" not in found.found
    assert not [one for one in examine(Settings(home=tmp_path)) if one.what == what]


def test_the_profiles_of_a_job_of_flink_are_known_as_such(shop_home, tmp_path, service):
    home = shutil.copytree(shop_home, tmp_path / "tenants" / f"t{secrets.token_hex(4)}")
    url, state_id = service("redis").environment["REDIS_URL"], read_manifest(home / "models" / "v1").state_id
    with closing(open_online(home, "shop", url)) as store:
        job = KeeperStore(store, f"{JOB}payments", state_id)
        job.begin([], goes_on=False)
        asked = Settings(home=home, redis_url=url)
        assert "has written no profiles yet" in of(asked, "online view").found
        job.beat("card/0", time.time_ns() // 1000)
        found = of(asked, "online view")
        assert (found.ok, found.warns) == (True, False)
        assert "profiles of the job of Flink payments" in found.found
        job.beat("card/0", time.time_ns() // 1000 - 3_600_000_000)
        assert of(asked, "online view").warns
        KeeperStore(store, f"{JOB}payments", "other").begin([], goes_on=False)
        found = of(asked, "online view")
        assert (found.ok, "of other features than those of v1" in found.found) == (False, True)
        store.clear([])


def test_an_archive_is_written_to(tmp_path):
    (tmp_path / "archive").mkdir()
    assert of(Settings(home=tmp_path, archive=str(tmp_path / "archive")), "archive").ok
    assert list((tmp_path / "archive").iterdir()) == []
    (tmp_path / "file").write_text("")
    found = of(Settings(home=tmp_path, archive=str(tmp_path / "file")), "archive")
    assert not found.ok
    assert "nothing leaves the log meanwhile" in found.found


def test_avro_schemas_are_read_from_a_folder_or_asked_for(tmp_path):
    folder = tmp_path / "schemas"
    folder.mkdir()
    of_folder = Settings(home=tmp_path, avro_schemas=str(folder))
    assert "has no file <number>.avsc" in of(of_folder, "Avro schemas").found
    (folder / "7.avsc").write_text('{"type": "string"}')
    assert of(of_folder, "Avro schemas").found == f"1 in {folder}"
    (folder / "8.avsc").write_text("{")
    assert "8.avsc is no schema" in of(of_folder, "Avro schemas").found
    answers = [(200, b'["payments-value"]'), (500, b"{}"), (200, b"7")]

    class Registry(BaseHTTPRequestHandler):
        def do_GET(self):
            status, body = answers.pop(0)
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Registry) as registry:
        thread = threading.Thread(target=registry.serve_forever)
        thread.start()
        settings = Settings(home=tmp_path, avro_schemas=f"http://127.0.0.1:{registry.server_port}/")
        said = [of(settings, "Avro schemas") for _ in range(3)]
        registry.shutdown()
        thread.join()
    assert [one.ok for one in said] == [True, False, False]
    assert "knows 1 subjects" in said[0].found
    assert "answers 500" in said[1].found
    assert "cannot be asked" in of(settings, "Avro schemas").found
