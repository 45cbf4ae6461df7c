"""Copies in UTF-8: only where polars needs them, once for a table, gone with it, and never more than there is room for."""

import gc
import shutil
import tempfile
from collections import namedtuple

import pytest

from sentinel.errors import DataProblem
from sentinel.events.reading import Dialect
from sentinel.events.tables import Table

Usage = namedtuple("Usage", "free")
LATIN = Dialect(encoding="latin-1")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The temporary folder of these tests."""
    found = tmp_path / "temporary"
    found.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(found))
    return found


def copies_in(folder):
    return sorted(one.stat().st_ino for one in folder.rglob("*") if one.is_file())


def cells_of(table):
    return [cell for batch in table.batches(["card"]) for cell in batch["card"]]


@pytest.mark.parametrize(
    "name", ["hex", "rot13", "undefined", "zip", "punycode", "uu", "base64", "klingon", "", "a\0b"]
)
def test_what_is_no_encoding_of_files_is_refused(name):
    with pytest.raises(DataProblem, match="no encoding of texts"):
        Dialect(encoding=name)


@pytest.mark.parametrize(
    "name", ["latin-1", "LATIN1", "utf-16", "utf-16-le", "cp1252", "utf_8_sig", "gb18030", "shift_jis", "cp500"]
)
def test_those_of_files_are_taken(name):
    assert Dialect(encoding=name).encoding == name


WRITTEN = {
    "Latin-1": ("x.csv", "card\nMüller\nx\n".encode("latin-1"), LATIN),
    "UTF-16": ("x.csv", "card\r\nMüller\r\nx\r\n".encode("utf-16"), None),
    "carriage returns": ("x.csv", b"card\rM\xc3\xbcller\rx\r", None),
}


@pytest.mark.parametrize(("name", "raw", "dialect"), WRITTEN.values(), ids=WRITTEN)
def test_a_copy_is_made_once_and_goes_with_the_table(tmp_path, folder, name, raw, dialect):
    (tmp_path / name).write_bytes(raw)
    table = Table(tmp_path / name, dialect)
    assert table.columns() == ["card"]
    assert copies_in(folder) == []
    assert cells_of(table) == ["Müller", "x"]
    (copy,) = copies_in(folder)
    assert cells_of(table) == ["Müller", "x"]
    assert copies_in(folder) == [copy]
    del table
    gc.collect()
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["latin-1", "utf-16", "utf-8-sig"])
def test_json_lines_need_none(tmp_path, folder, encoding, end):
    path = tmp_path / "x.jsonl"
    path.write_bytes(end.join(['{"card": "Müller"}', "", '{"card": "x\u0085"}', ""]).encode(encoding))
    table = Table(path, Dialect(encoding=encoding))
    assert table.columns() == ["card"]
    assert cells_of(table) == ["Müller", "x\u0085"]
    assert copies_in(folder) == []


def test_a_line_of_names_that_is_longer_than_the_head_is_read_whole(tmp_path, folder):
    names = [f"ü{n:030}" for n in range(4_000)]
    (tmp_path / "x.csv").write_bytes((",".join(names) + "\n").encode("latin-1"))
    assert Table(tmp_path / "x.csv", LATIN).columns() == names


def test_where_there_is_no_room_what_is_lacking_is_said(tmp_path, folder, monkeypatch):
    (tmp_path / "x.csv").write_bytes("card\nMüller\n".encode("latin-1") * 200_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _folder: Usage(1_000_000))
    with pytest.raises(DataProblem, match=rf"about 2 MB, and {folder} has 1 MB left: .* TMPDIR"):
        cells_of(Table(tmp_path / "x.csv", LATIN))
    assert copies_in(folder) == []


def test_where_there_is_room_for_one_of_several_one_is_kept(tmp_path, folder, monkeypatch):
    for n in range(3):
        (tmp_path / f"x{n}.csv").write_bytes(f"card\nMüller {n}\n".encode("latin-1"))

    def usage(of):
        return Usage(20 - sum(one.stat().st_size for one in folder.rglob("*.csv")))

    monkeypatch.setattr(shutil, "disk_usage", usage)
    table = Table(tmp_path / "x*.csv", LATIN)
    for _ in range(2):
        assert cells_of(table) == ["Müller 0", "Müller 1", "Müller 2"]
        assert len(copies_in(folder)) == 1
