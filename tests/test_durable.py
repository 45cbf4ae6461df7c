"""Durable files: what was written is still there after a power cut, under its name."""

import os
import stat

import pytest

from sentinel.config import Settings
from sentinel.durable import append_durably, create_durably, make_folder, write_durably
from sentinel.events.secrets import KEY_FILE, KNOWN_FILE
from sentinel.model.bundle import MODEL_FILE, load_bundle, sign_bundle, write_bundle
from sentinel.model.registry import Registry
from sentinel.model.registry_record import RECORD_FILE
from sentinel.model.signing import SIGNATURE_FILE, make_key_pair, signer
from sentinel.record.applied import log_folder
from sentinel.record.home_log import MARK, HomeLog
from sentinel.transport.access.keys import Grant
from sentinel.transport.access.scopes import Scope
from sentinel.transport.access.store import KeyStore


class Power:
    """Notes what the disk was asked to keep: the content of files, and the names in folders."""

    def __init__(self):
        self.contents, self.names = {}, {}
        self._sync = os.fsync

    def fsync(self, descriptor):
        found = os.fstat(descriptor)
        if stat.S_ISDIR(found.st_mode):
            with os.scandir(descriptor) as entries:
                self.names[found.st_ino] = {one.name: one.inode() for one in entries}
        else:
            self.contents[found.st_ino] = (found.st_size, found.st_mtime_ns)
        self._sync(descriptor)

    def keeps(self, path):
        """Whether a cut leaves this path as it is, up to the folder that the test began with."""
        found, names = path.stat(), self.names.get(path.parent.stat().st_ino, {})
        is_whole = path.is_dir() or self.contents.get(found.st_ino) == (found.st_size, found.st_mtime_ns)
        return is_whole and names.get(path.name) == found.st_ino


@pytest.fixture
def power(monkeypatch):
    noted = Power()
    monkeypatch.setattr(os, "fsync", noted.fsync)
    return noted


def test_a_file_takes_the_place_of_another_and_leaves_no_draft(power, tmp_path):
    for data in (b"one", b"another"):
        write_durably(tmp_path / "file", data, 0o600)
        assert (tmp_path / "file").read_bytes() == data
        assert power.keeps(tmp_path / "file")
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_file_that_is_there_already_is_not_created(power, tmp_path):
    create_durably(tmp_path / "file", b"one")
    assert power.keeps(tmp_path / "file")
    with pytest.raises(FileExistsError):
        create_durably(tmp_path / "file", b"another")
    assert (tmp_path / "file").read_bytes() == b"one"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_what_cannot_be_put_in_place_leaves_no_draft(tmp_path):
    (tmp_path / "file").mkdir()
    for write in (write_durably, create_durably):
        with pytest.raises(OSError, match=r"file"):
            write(tmp_path / "file", b"")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_line_is_added_behind_what_was_torn_off(power, tmp_path):
    append_durably(tmp_path / "lines", b"one")
    with (tmp_path / "lines").open("ab") as file:
        file.write(b"tw")
    append_durably(tmp_path / "lines", b"three")
    assert (tmp_path / "lines").read_bytes() == b"one\ntw\nthree\n"
    assert power.keeps(tmp_path / "lines")


def test_a_folder_is_durable_with_all_those_it_is_in(power, tmp_path):
    for _ in range(2):
        make_folder(tmp_path / "a" / "b", 0o700)
        assert power.keeps(tmp_path / "a" / "b")
        assert power.keeps(tmp_path / "a")


def test_a_bundle_its_record_and_its_signature_are_durable(power, shop_home, tmp_path):
    registry, team = Registry(tmp_path / "models"), tmp_path / "team.key"
    public, _ = make_key_pair(team)
    assert power.keeps(team)
    assert power.keeps(public)
    first = shop_home / "models" / "v1"
    bundle, model = load_bundle(first), (first / MODEL_FILE).read_bytes()
    write_bundle(registry, bundle.manifest, model, bundle.reference, bundle.new_store())
    for path in (registry.folder, registry.folder / "v1", *(registry.folder / "v1").iterdir()):
        assert power.keeps(path), path
    assert power.keeps(registry.folder / RECORD_FILE)
    sign_bundle(registry, "v1", signer(team))
    assert power.keeps(registry.folder / "v1" / SIGNATURE_FILE)


def test_the_keys_and_the_mark_of_a_home_are_durable(power, tmp_path):
    home = tmp_path / "home"
    Settings(home=home).secrets().hidden("4111111111111111")
    Settings(home=home, hash_key="0123456789abcdefghijklmnopqrstuvwxyz").secrets()
    HomeLog.open(log_folder(home), 1).close()
    keys = KeyStore(home)
    keys.change(lambda ring: ring.with_new(Grant(name="shop", scopes=(Scope.SCORE,)), "sk_shop", 1))
    for path in (home, home / KEY_FILE, home / KNOWN_FILE, home / MARK, keys.path.parent, keys.path):
        assert power.keeps(path), path
