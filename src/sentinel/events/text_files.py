"""Text files as they are written: their encoding and the ends of their lines, and copies of them in UTF-8."""

import codecs
import errno
import gzip
import io
import re
import shutil
import tempfile
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import zstandard

from sentinel.errors import DataProblem, NotUtf8

GROWTH = 6
"""Of compressed text that is unpacked, about."""

_IN_TEXT = bytes(one for one in range(256) if one >= 32 or one in b"\t\n\r\x0c\x1b")
_MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
_AT_ONCE = 1 << 20
LONGEST_LINE = 1 << 24
_LINE_ENDS = (b"\n", b"\r")
_ZSTD = b"\x28\xb5\x2f\xfd"
_LARGEST_WINDOW = 1 << 27


def bytes_of(path: Path) -> BinaryIO:
    """The bytes of a file, unpacked if its name ends in `.gz`, or in `.zst` and it is packed so.

    Where the data of zstd are cut they end without an error.
    """
    ending = path.suffix.lower()
    if ending == ".gz":
        return gzip.open(path)  # type: ignore[return-value]
    file = path.open("rb")
    if ending != ".zst" or file.read(len(_ZSTD)) != _ZSTD:
        file.seek(0)
        return file
    file.seek(0)
    unpacked = zstandard.ZstdDecompressor(max_window_size=_LARGEST_WINDOW).stream_reader(
        file, read_across_frames=True, closefd=True
    )
    return io.BufferedReader(unpacked)


def lines_of(path: Path) -> Iterator[bytes]:
    """Its lines, with their ends. Raises DataProblem for one that is longer than `LONGEST_LINE`, before it is held."""
    with bytes_of(path) as file:
        number = 0
        while line := file.readline(LONGEST_LINE + 1):
            number += 1
            if len(line) > LONGEST_LINE:
                raise _too_long(path, number)
            yield line


def check_lines(path: Path) -> None:
    """Read the whole file, and raise DataProblem for a line that is longer than `LONGEST_LINE`."""
    number, begun = 1, 0
    with bytes_of(path) as file:
        while block := file.read(_AT_ONCE):
            first = min((at for at in map(block.find, _LINE_ENDS) if at >= 0), default=len(block))
            if begun + first > LONGEST_LINE:
                raise _too_long(path, number)
            last = max(map(block.rfind, _LINE_ENDS))
            begun = begun + len(block) if last < 0 else len(block) - last - 1
            number += block.count(b"\n")


def _too_long(path: Path, number: int) -> DataProblem:
    return DataProblem(f"{path}, line {number} is longer than {LONGEST_LINE >> 20} MiB; each row is a line of its own")


class Script(NamedTuple):
    """How a text file is written where that is not UTF-8 with line feeds; `returns`: with carriage returns alone."""

    encoding: str
    returns: bool

    def head(self, path: Path, raw: bytes) -> bytes:
        """The first bytes of the file in UTF-8. Raises DataProblem."""
        try:
            return self._plain(codecs.getincrementaldecoder(self.encoding)().decode(raw)).encode()
        except UnicodeError as error:
            raise self._misread(path, error) from error

    def blocks(self, path: Path) -> Iterator[bytes]:
        """The whole file in UTF-8. Raises DataProblem."""
        with bytes_of(path) as source:
            decoder = codecs.getincrementaldecoder(self.encoding)()
            try:
                while block := source.read(_AT_ONCE):
                    yield self._plain(decoder.decode(block)).encode()
                yield decoder.decode(b"", final=True).encode()
            except UnicodeError as error:
                raise self._misread(path, error) from error

    def lines(self, path: Path) -> Iterator[bytes]:
        """Its lines in UTF-8. Raises DataProblem."""
        begun, number = b"", 1
        for block in self.blocks(path):
            *whole, begun = (begun + block).split(b"\n")
            number += len(whole)
            if len(begun) > LONGEST_LINE:
                raise _too_long(path, number)
            yield from whole
        yield begun

    def _plain(self, text: str) -> str:
        return text.replace("\r", "\n") if self.returns else text

    def _misread(self, path: Path, error: UnicodeError) -> DataProblem:
        reason = getattr(error, "reason", error)
        return DataProblem(f"{path} is not {self.encoding} ({reason}); say its encoding with --encoding")


def script_of(path: Path, head: bytes, encoding: str | None) -> Script | None:
    """How a file with these first bytes is written; None where it is UTF-8 with line feeds. Raises DataProblem."""
    found = next((name for mark, name in _MARKS if head.startswith(mark)), None)
    if found is None and encoding is None:
        found = _utf16_without_mark(head)
    wanted = found or encoding or "utf-8"
    returns = b"\r" in head and b"\n" not in head
    if codecs.lookup(wanted).name in ("utf-8", "utf-8-sig", "ascii"):
        _check_text(path, head)
        if not returns:
            return None
    if path.suffix.lower() == ".zst":
        raise DataProblem(f"{path}: files in {wanted} can be read as they are, or compressed with gzip, not with zstd")
    return Script(wanted, returns)


def _utf16_without_mark(head: bytes) -> str | None:
    """UTF-16 has a zero beside each usual letter, always on the same side."""
    after, before = head[1::2].count(0), head[::2].count(0)
    if max(after, before) < len(head) / 10:
        return None
    return "utf-16-le" if after > 4 * before else "utf-16-be" if before > 4 * after else None


def _check_text(path: Path, head: bytes) -> None:
    """That the head of a file is text, in UTF-8."""
    if len(head.translate(None, _IN_TEXT)) > len(head) / 50:
        raise DataProblem(f"{path} is binary: it has no text in it")
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError as error:
        line = head[: error.start].count(b"\n") + 1
        raise NotUtf8(str(path), line, perhaps(head)) from None


def perhaps(text: bytes) -> str:
    """Of the encodings with a byte a letter the usual one: what Windows writes has letters where Latin-1 has none."""
    return "cp1252" if re.search(rb"[\x80-\x9f]", text) else "latin-1"


class Copies:
    """Copies of files in UTF-8, in a temporary folder that goes with this object.

    Each is made once, unless the folder has no room for all of them.
    """

    def __init__(self) -> None:
        self._made: dict[Path, Path] = {}
        self._folder: Path | None = None

    def of(self, path: Path, script: Script) -> Path:
        """The copy of this file. Raises DataProblem where there is no room for it."""
        if path not in self._made:
            if self._folder is None:
                self._folder = Path(tempfile.mkdtemp(prefix="sentinel-"))
                weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
            needed = path.stat().st_size * (GROWTH if path.suffix.lower() == ".gz" else 1)
            self._make_room(path, needed, self._folder)
            copy = self._folder / f"{len(self._made)}.csv"
            try:
                with copy.open("wb") as target:
                    target.writelines(script.blocks(path))
            except OSError as error:
                copy.unlink()
                if error.errno == errno.ENOSPC:
                    raise _no_room(path, needed, self._folder) from error
                raise
            self._made[path] = copy
        return self._made[path]

    def _make_room(self, path: Path, needed: int, folder: Path) -> None:
        if shutil.disk_usage(folder).free < needed:
            for copy in self._made.values():
                copy.unlink()
            self._made.clear()
        if shutil.disk_usage(folder).free < needed:
            raise _no_room(path, needed, folder)


def _no_room(path: Path, needed: int, folder: Path) -> DataProblem:
    free = shutil.disk_usage(folder).free
    return DataProblem(
        f"{path} is read through a copy in UTF-8 of about {needed / 1e6:,.0f} MB, and {folder.parent} has "
        f"{free / 1e6:,.0f} MB left: make room, or name another folder in the variable TMPDIR"
    )
