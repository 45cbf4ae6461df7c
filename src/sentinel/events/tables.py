"""Tables: what files hold, as batches of columns, whatever the format, the separator, the encoding or the compression.

Nothing is inferred: the cells of CSV are texts, those of JSON lines what JSON says they are, and Parquet has its types.
"""

import codecs
import csv
import glob
import gzip
import json
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import msgspec
import polars as pl

from sentinel.errors import DataProblem, NotUtf8
from sentinel.events.card_numbers import quoted
from sentinel.events.reading import Dialect

ROWS_AT_ONCE = 250_000

JsonCells: TypeAlias = list[Any]
Column: TypeAlias = pl.Series | JsonCells
"""One column of a batch: as polars has it, or the values of JSON lines; BROKEN stands in every column of a line that is
no JSON object."""

BROKEN = object()
REPEATED = object()
"""In every column of a line that has a name twice."""

SEPARATORS = ",;\t|"
FORMATS = {".csv": "csv", ".tsv": "csv", ".txt": "csv", ".parquet": "parquet", ".jsonl": "json", ".ndjson": "json"}
_NAMES = re.compile(rb'"\s*:')
_decode_object = msgspec.json.Decoder(dict[str, Any]).decode
_COMPRESSIONS = (".gz", ".zst")
_HEAD_BYTES = 1 << 16
_IN_TEXT = bytes(one for one in range(256) if one >= 32 or one in b"\t\n\r\x0c\x1b")
_ENDS_EARLY = r"(?i)unexpected end of file|incomplete frame|unexpected eof|corrupt(?:ed)? deflate"
_GROWTH = 6  # of compressed text that is unpacked, about
_MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))


class Table:
    """One file, or all files of a folder or a pattern, as one table. Raises DataProblem, as its methods do."""

    def __init__(self, path: Path, dialect: Dialect | None = None) -> None:
        self.path = path
        self._dialect = dialect or Dialect()
        self._files = _files_of(path)

    def columns(self) -> list[str]:
        """The names of the columns, those of all files together; of JSON lines those of the first thousand lines."""
        found: dict[str, None] = {}
        for file in self._files:
            with _readable(file, self._dialect) as opened:
                found |= dict.fromkeys(opened.columns())
        return list(found)

    def rows_about(self) -> int:
        """How many rows there are, guessed from the size and the first lines; exact for Parquet."""
        return sum(map(_rows_about, self._files))

    def batches(self, columns: Sequence[str]) -> Iterator[dict[str, Column]]:
        """These columns, some hundred thousand rows at once. A file that lacks one of them has nulls there."""
        for file in self._files:
            with _readable(file, self._dialect) as opened:
                yield from opened.batches(columns)


def _files_of(path: Path) -> list[Path]:
    if path.is_dir():
        found = sorted(one for one in path.rglob("*") if one.is_file() and _format_of(one) is not None)
        if not found:
            raise DataProblem(f"the folder {path} has no .csv, .parquet, .jsonl or .ndjson file")
        return found
    if path.exists():
        return [path]
    found = sorted(Path(one) for one in glob.glob(str(path), recursive=True) if Path(one).is_file())  # noqa: PTH207
    if not found:
        raise DataProblem(f"there is no file {path}")
    return found


def _rows_about(path: Path) -> int:
    if _format_of(path) == "parquet":
        with suppress(pl.exceptions.PolarsError, OSError):
            return int(pl.scan_parquet(path).select(pl.len()).collect().item())
        return 0
    with suppress(OSError, EOFError, DataProblem):
        head = _head(path)
        growth = _GROWTH if path.suffix.lower() in _COMPRESSIONS else 1
        return growth * path.stat().st_size * (head.count(b"\n") + 1) // max(len(head), 1)
    return 0


def _format_of(path: Path) -> str | None:
    suffixes = [suffix.lower() for suffix in path.suffixes if suffix.lower() not in _COMPRESSIONS]
    return FORMATS.get(suffixes[-1]) if suffixes else None


class _Opened:
    """A file that is being read."""

    def __init__(self, path: Path, shown: Path) -> None:
        self.path = path
        """Where its bytes are, which may be a copy in another encoding."""

        self.shown = shown

    def columns(self) -> list[str]:
        """The names of its columns; each format says it."""
        raise NotImplementedError

    def batches(self, columns: Sequence[str]) -> Iterator[dict[str, Column]]:
        """These columns, some rows at a time; each format says it."""
        raise NotImplementedError

    def fault(self, error: Exception) -> DataProblem:
        """A library's fault in one sentence."""
        said = str(error).strip().split("\n", 1)[0]
        if re.search(_ENDS_EARLY, said):
            return DataProblem(f"{self.shown} cannot be read: its compressed data ends too early")
        return DataProblem(f"{self.shown} cannot be read: {said[:200] or type(error).__name__}")


@contextmanager
def _readable(path: Path, dialect: Dialect) -> Iterator[_Opened]:
    kind = _format_of(path)
    if kind is None:
        raise DataProblem(f"{path}: what it holds is told by its ending; use .csv, .parquet, .jsonl or .ndjson")
    with ExitStack() as stack:
        try:
            if path.stat().st_size == 0:
                raise DataProblem(f"{path} is empty")
            if kind == "parquet":
                yield _Parquet(path, path)
                return
            head = _head(path)
            if not head.strip(b"\r\n\t \0"):
                raise DataProblem(f"{path} is empty")
            copy = _as_utf8(path, head, dialect.encoding, stack)
            if kind == "json":
                yield _JsonLines(copy or path, path)
                return
            first = _head(copy) if copy else head
            yield _Csv(copy or path, path, dialect.separator or _separator_of(first))
        except OSError as error:
            said = (
                "its compressed data ends too early" if re.search(_ENDS_EARLY, str(error)) else error.strerror or error
            )
            raise DataProblem(f"{path} cannot be read: {said}") from error
        except EOFError as error:
            raise DataProblem(f"{path} cannot be read: its compressed data ends too early") from error


def _head(path: Path) -> bytes:
    if path.suffix.lower() == ".zst":
        return _first_lines_of_zst(path)
    with _bytes_of(path) as file:
        return file.read(_HEAD_BYTES)


def _bytes_of(path: Path) -> BinaryIO:
    return gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb")  # type: ignore[return-value]


def _first_lines_of_zst(path: Path) -> bytes:
    try:
        lines = pl.scan_lines(path).head(100).collect()["line"]
    except pl.exceptions.PolarsError as error:
        raise DataProblem(f"{path} cannot be read: {str(error).splitlines()[0][:200]}") from error
    return "\n".join(lines.to_list()).encode()


def _as_utf8(path: Path, head: bytes, encoding: str | None, stack: ExitStack) -> Path | None:
    """A copy of a text file as UTF-8, gone with the stack; None when it is so already."""
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
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sentinel-")))
    copy = folder / f"copy{path.with_suffix('').suffix if path.suffix.lower() == '.gz' else path.suffix}"
    decoder = codecs.getincrementaldecoder(wanted)()
    with _bytes_of(path) as source, copy.open("wb") as target:
        try:
            while block := source.read(1 << 20):
                text = decoder.decode(block)
                target.write((text.replace("\r", "\n") if returns else text).encode())
            target.write(decoder.decode(b"", final=True).encode())
        except UnicodeError as error:
            raise DataProblem(f"{path} is not {wanted} ({error.reason}); say its encoding with --encoding") from error  # type: ignore[attr-defined]
    return copy


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
        raise NotUtf8(str(path), line, _perhaps(head)) from None


def _perhaps(head: bytes) -> str:
    """Of the encodings with a byte a letter the usual one: what Windows writes has letters where Latin-1 has none."""
    return "cp1252" if re.search(rb"[\x80-\x9f]", head) else "latin-1"


def _separator_of(head: bytes) -> str:
    """The one of the usual separators that makes most columns of the first line that has anything."""
    line = next((one for one in head.decode(errors="replace").splitlines() if one.strip()), "")
    return max(SEPARATORS, key=lambda one: len(next(csv.reader([line], delimiter=one), [])))


class _Csv(_Opened):
    def __init__(self, path: Path, shown: Path, separator: str) -> None:
        super().__init__(path, shown)
        self._separator = separator

    def columns(self) -> list[str]:
        """Those of the first line."""
        try:
            found = self._scan().collect_schema().names()
        except pl.exceptions.PolarsError as error:
            raise self._explained(error) from error
        return found

    def batches(self, columns: Sequence[str]) -> Iterator[dict[str, Column]]:
        """All cells are texts; an empty one is null."""
        names = self.columns()
        present = [name for name in columns if name in names]
        twice = [name for name in present if name and f"{name}_duplicated_0" in names]
        if twice:
            raise DataProblem(f"{self.shown} has the column {quoted(twice[0])} twice; rename one")
        try:
            for frame in self._scan().select(present).collect_batches(chunk_size=ROWS_AT_ONCE, maintain_order=True):
                yield {
                    name: frame[name] if name in present else pl.Series(name, [None] * len(frame), pl.String)
                    for name in columns
                }
        except pl.exceptions.PolarsError as error:
            raise self._explained(error) from error

    def _scan(self) -> pl.LazyFrame:
        return pl.scan_csv(self.path, infer_schema=False, separator=self._separator)

    def _explained(self, error: Exception) -> DataProblem:
        """The first line that has another number of cells than the header, or what the library says."""
        if "utf-8" in str(error).lower() or "utf8" in str(error).lower():
            return NotUtf8(str(self.shown), *self._first_not_utf8())
        if self.path.suffix.lower() == ".zst":
            return self.fault(error)
        with _bytes_of(self.path) as file:
            text = codecs.iterdecode(file, "utf-8-sig", errors="replace")
            lines, begun = csv.reader(text, delimiter=self._separator, strict=True), 1
            try:
                wanted = len(next(lines, []))
                begun = lines.line_num + 1
                for cells in lines:
                    begun = lines.line_num + 1
                    if len(cells) > wanted:
                        return DataProblem(
                            f"{self.shown}, line {lines.line_num} has {len(cells)} cells and the first line {wanted}; "
                            f"write a text that has a {quoted(self._separator)} in quotes, or say --separator"
                        )
            except (csv.Error, EOFError) as fault:
                if "unexpected end of data" in str(fault) or "field limit" in str(fault):
                    return DataProblem(f"{self.shown}, line {begun}: a quote is not closed")
        return self.fault(error)

    def _first_not_utf8(self) -> tuple[int | None, str]:
        """The line of it, and the encoding that it may be."""
        if self.path.suffix.lower() == ".zst":
            return None, "latin-1"
        with _bytes_of(self.path) as file:
            for number, line in enumerate(file, 1):
                try:
                    line.decode()
                except UnicodeDecodeError:
                    return number, _perhaps(line)
        return None, "latin-1"


class _Parquet(_Opened):
    def columns(self) -> list[str]:
        """Those of the file."""
        try:
            return pl.scan_parquet(self.path).collect_schema().names()
        except pl.exceptions.PolarsError as error:
            raise self.fault(error) from error

    def batches(self, columns: Sequence[str]) -> Iterator[dict[str, Column]]:
        """Columns with the types of the file."""
        present = [name for name in columns if name in self.columns()]
        scan = pl.scan_parquet(self.path).select(present)
        try:
            for frame in scan.collect_batches(chunk_size=ROWS_AT_ONCE, maintain_order=True):
                yield {
                    name: frame[name] if name in present else pl.Series(name, [None] * len(frame), pl.Null)
                    for name in columns
                }
        except pl.exceptions.PolarsError as error:
            raise self.fault(error) from error


class _JsonLines(_Opened):
    def columns(self) -> list[str]:
        """Those of the first thousand objects."""
        found: dict[str, None] = {}
        for line in islice(self._lines(), 1_000):
            with suppress(msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                found |= dict.fromkeys(_decode_object(line.removeprefix(codecs.BOM_UTF8)))
        if not found:
            raise DataProblem(f"{self.shown} cannot be read: its first lines are no JSON objects, one in each line")
        return list(found)

    def batches(self, columns: Sequence[str]) -> Iterator[dict[str, Column]]:
        """The values of each line; blank lines are none."""
        lines = self._lines()
        while some := list(islice(lines, ROWS_AT_ONCE)):
            found = [_object(line) for line in some]
            yield {name: [one.get(name) if type(one) is dict else one for one in found] for name in columns}

    def _lines(self) -> Iterator[bytes]:
        if self.path.suffix.lower() == ".zst":
            try:
                for frame in pl.scan_lines(self.path).collect_batches(chunk_size=ROWS_AT_ONCE, maintain_order=True):
                    yield from (line.encode() for line in frame["line"] if line.strip())
            except pl.exceptions.PolarsError as error:
                raise self.fault(error) from error
            return
        with _bytes_of(self.path) as file:
            yield from (line for line in file if not line.isspace())


def _object(line: bytes) -> Any:
    """The object of a line, REPEATED where a name is there twice, or BROKEN."""
    line = line.removeprefix(codecs.BOM_UTF8)
    try:
        found = _decode_object(line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return BROKEN
    if len(_NAMES.findall(line)) != len(found) and _has_repeats(line):
        return REPEATED
    return found


def _has_repeats(line: bytes) -> bool:
    repeated = False

    def look(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal repeated
        found = dict(pairs)
        repeated |= len(found) != len(pairs)
        return found

    json.loads(line, object_pairs_hook=look)
    return repeated
