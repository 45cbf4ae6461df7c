"""Tables: what files hold, as batches of columns, whatever the format, the separator, the encoding or the compression.

Nothing is inferred: the cells of CSV are texts, those of JSON lines what JSON says they are, and Parquet has its types.
"""

import codecs
import csv
import glob
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
import polars as pl
import zstandard

from sentinel.errors import DataProblem, NotUtf8
from sentinel.events.card_numbers import quoted
from sentinel.events.reading import Dialect
from sentinel.events.text_files import GROWTH, Copies, Script, bytes_of, check_lines, lines_of, perhaps, script_of

ROWS_AT_ONCE = 250_000
MOST_COLUMNS = 5_000

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
_CUT = "its compressed data ends too early, or it is empty"
_ENDS_EARLY = r"(?i)unexpected end of file|incomplete frame|unexpected eof|corrupt(?:ed)? deflate"


class Table:
    """One file, or all files of a folder or a pattern, as one table. Raises DataProblem, as its methods do."""

    def __init__(self, path: Path, dialect: Dialect | None = None) -> None:
        self.path = path
        self._dialect = dialect or Dialect()
        self._files = files_of(path)
        self._copies = Copies()
        self._checked: set[Path] = set()

    def columns(self) -> list[str]:
        """The names of the columns, those of all files together; of JSON lines those of the first thousand lines."""
        found: dict[str, None] = {}
        for file in self._files:
            with self._opened(file) as opened:
                found |= dict.fromkeys(opened.columns())
                _check_width(self.path, len(found))
        return list(found)

    def rows_about(self) -> int:
        """How many rows there are, guessed from the size and the first lines; exact for Parquet."""
        return sum(map(_rows_about, self._files))

    def batches(self, columns: Sequence[str]) -> Iterator[dict[str, Column]]:
        """These columns, some hundred thousand rows at once. A file that lacks one of them has nulls there."""
        for file in self._files:
            with self._opened(file) as opened:
                yield from opened.batches(columns)

    @contextmanager
    def _opened(self, file: Path) -> Iterator["_Opened"]:
        """A file that can be read; polars would hold whatever is one line, so lines are measured first, once."""
        with _faults_said(file):
            if file not in self._checked and _is_read_by_polars(file):
                check_lines(file)
            self._checked.add(file)
            yield _open(file, self._dialect, self._copies)


def files_of(path: Path) -> list[Path]:
    """The files that a path stands for: itself, those of a folder, or those of a pattern. Raises DataProblem."""
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
            return int(pl.scan_parquet(path, glob=False).select(pl.len()).collect().item())
        return 0
    with suppress(OSError, EOFError, DataProblem):
        head = _head(path)
        growth = GROWTH if path.suffix.lower() in _COMPRESSIONS else 1
        return growth * path.stat().st_size * (head.count(b"\n") + 1) // max(len(head), 1)
    return 0


def _format_of(path: Path) -> str | None:
    suffixes = [suffix.lower() for suffix in path.suffixes if suffix.lower() not in _COMPRESSIONS]
    return FORMATS.get(suffixes[-1]) if suffixes else None


class _Opened:
    """A file that is being read."""

    def __init__(self, path: Path) -> None:
        self.path = path

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
            return DataProblem(f"{self.path} cannot be read: its compressed data ends too early")
        return DataProblem(f"{self.path} cannot be read: {said[:200] or type(error).__name__}")


def _is_read_by_polars(path: Path) -> bool:
    kind = _format_of(path)
    return kind == "csv" or (kind == "json" and path.suffix.lower() == ".zst")


def _check_width(path: Path, columns: int) -> None:
    if columns > MOST_COLUMNS:
        raise DataProblem(
            f"{path} has more than {MOST_COLUMNS:,} columns; write those that matter to a file of their own"
        )


def _open(path: Path, dialect: Dialect, copies: Copies) -> _Opened:
    kind = _format_of(path)
    if kind is None:
        raise DataProblem(f"{path}: what it holds is told by its ending; use .csv, .parquet, .jsonl or .ndjson")
    if path.stat().st_size == 0:
        raise DataProblem(f"{path} is empty")
    return _Parquet(path) if kind == "parquet" else _text(path, kind, dialect, copies)


@contextmanager
def _faults_said(path: Path) -> Iterator[None]:
    try:
        yield
    except zstandard.ZstdError as error:
        raise DataProblem(f"{path} cannot be read: {str(error)[:200]}") from error
    except OSError as error:
        said = "its compressed data ends too early" if re.search(_ENDS_EARLY, str(error)) else error.strerror or error
        raise DataProblem(f"{path} cannot be read: {said}") from error
    except EOFError as error:
        raise DataProblem(f"{path} cannot be read: its compressed data ends too early") from error


def _text(path: Path, kind: str, dialect: Dialect, copies: Copies) -> _Opened:
    head = _head(path)
    if not head.strip(b"\r\n\t \0"):
        is_packed = path.suffix.lower() == ".zst"
        raise DataProblem(f"{path} cannot be read: {_CUT}" if is_packed and not head else f"{path} is empty")
    script = script_of(path, head, dialect.encoding)
    if kind == "json":
        return _JsonLines(path, script)
    if script is None:
        separator = dialect.separator or _separator_of(head)
        _check_width(path, next(lines_of(path)).count(separator.encode()))
        return _Csv(path, separator)
    head = script.head(path, head)
    separator = dialect.separator or _separator_of(head)
    _check_width(path, next(script.lines(path)).count(separator.encode()))
    return _CsvInScript(path, separator, script, head, copies)


def _head(path: Path) -> bytes:
    with bytes_of(path) as file:
        return file.read(_HEAD_BYTES)


def _separator_of(head: bytes) -> str:
    """The one of the usual separators that makes most columns of the first line that has anything."""
    line = next((one for one in head.decode(errors="replace").splitlines() if one.strip()), "")
    return max(SEPARATORS, key=lambda one: len(next(csv.reader([line], delimiter=one), [])))


class _Csv(_Opened):
    def __init__(self, path: Path, separator: str) -> None:
        super().__init__(path)
        self._separator = separator

    def in_utf8(self) -> Path:
        """Where its text is."""
        return self.path

    def first_line(self) -> Path | BytesIO:
        """Where its first line is."""
        return self.path

    def columns(self) -> list[str]:
        """Those of the first line."""
        try:
            return self._scan(self.first_line()).collect_schema().names()
        except pl.exceptions.PolarsError as error:
            raise self._explained(error) from error

    def batches(self, columns: Sequence[str]) -> Iterator[dict[str, Column]]:
        """All cells are texts; an empty one is null."""
        names = self.columns()
        present = [name for name in columns if name in names]
        twice = [name for name in present if name and f"{name}_duplicated_0" in names]
        if twice:
            raise DataProblem(f"{self.path} has the column {quoted(twice[0])} twice; rename one")
        try:
            scan = self._scan(self.in_utf8())
            for frame in scan.select(present).collect_batches(chunk_size=ROWS_AT_ONCE, maintain_order=True):
                yield {
                    name: frame[name] if name in present else pl.Series(name, [None] * len(frame), pl.String)
                    for name in columns
                }
        except pl.exceptions.PolarsError as error:
            raise self._explained(error) from error

    def _scan(self, source: Path | BytesIO) -> pl.LazyFrame:
        return pl.scan_csv(
            source, infer_schema=False, separator=self._separator, glob=False, with_column_names=_without_doubled_quotes
        )

    def _explained(self, error: Exception) -> DataProblem:
        """The first line that has another number of cells than the header, or what the library says."""
        if "utf-8" in str(error).lower() or "utf8" in str(error).lower():
            return NotUtf8(str(self.path), *self._first_not_utf8())
        if self.path.suffix.lower() == ".zst":
            return self.fault(error)
        with bytes_of(self.in_utf8()) as file:
            text = codecs.iterdecode(file, "utf-8-sig", errors="replace")
            lines, begun = csv.reader(text, delimiter=self._separator, strict=True), 1
            try:
                wanted = len(next(lines, []))
                begun = lines.line_num + 1
                for cells in lines:
                    begun = lines.line_num + 1
                    if len(cells) > wanted:
                        return DataProblem(
                            f"{self.path}, line {lines.line_num} has {len(cells)} cells and the first line {wanted}; "
                            f"write a text that has a {quoted(self._separator)} in quotes, or say --separator"
                        )
            except (csv.Error, EOFError) as fault:
                if "unexpected end of data" in str(fault) or "field limit" in str(fault):
                    return DataProblem(f"{self.path}, line {begun}: a quote is not closed")
        return self.fault(error)

    def _first_not_utf8(self) -> tuple[int | None, str]:
        """The line of it, and the encoding that it may be."""
        if self.path.suffix.lower() == ".zst":
            return None, "latin-1"
        with bytes_of(self.path) as file:
            for number, line in enumerate(file, 1):
                try:
                    line.decode()
                except UnicodeDecodeError:
                    return number, perhaps(line)
        return None, "latin-1"


def _without_doubled_quotes(names: list[str]) -> list[str]:
    """As the header means them: polars leaves a quote within quotes doubled there."""
    return [name.replace('""', '"') for name in names]


class _CsvInScript(_Csv):
    """Polars reads UTF-8 with line feeds only: it is given a copy."""

    def __init__(self, path: Path, separator: str, script: Script, head: bytes, copies: Copies) -> None:
        super().__init__(path, separator)
        self._script, self._head, self._copies = script, head, copies

    def in_utf8(self) -> Path:
        """The copy, which is made when it is needed."""
        return self._copies.of(self.path, self._script)

    def first_line(self) -> Path | BytesIO:
        """The head, unless a line is longer."""
        whole, line_feed, _ = self._head.rpartition(b"\n")
        return BytesIO(whole + line_feed) if line_feed else self.in_utf8()


class _Parquet(_Opened):
    def columns(self) -> list[str]:
        """Those of the file."""
        try:
            return pl.scan_parquet(self.path, glob=False).collect_schema().names()
        except pl.exceptions.PolarsError as error:
            raise self.fault(error) from error

    def batches(self, columns: Sequence[str]) -> Iterator[dict[str, Column]]:
        """Columns with the types of the file."""
        present = [name for name in columns if name in self.columns()]
        scan = pl.scan_parquet(self.path, glob=False).select(present)
        try:
            for frame in scan.collect_batches(chunk_size=ROWS_AT_ONCE, maintain_order=True):
                yield {
                    name: frame[name] if name in present else pl.Series(name, [None] * len(frame), pl.Null)
                    for name in columns
                }
        except pl.exceptions.PolarsError as error:
            raise self.fault(error) from error


class _JsonLines(_Opened):
    def __init__(self, path: Path, script: Script | None) -> None:
        super().__init__(path)
        self._script = script

    def columns(self) -> list[str]:
        """Those of the first thousand objects."""
        found: dict[str, None] = {}
        for line in islice(self._lines(), 1_000):
            with suppress(msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                found |= dict.fromkeys(_decode_object(line.removeprefix(codecs.BOM_UTF8)))
            _check_width(self.path, len(found))
        if not found:
            raise DataProblem(f"{self.path} cannot be read: its first lines are no JSON objects, one in each line")
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
                for frame in pl.scan_lines(self.path, glob=False).collect_batches(
                    chunk_size=ROWS_AT_ONCE, maintain_order=True
                ):
                    yield from (line.encode() for line in frame["line"] if line.strip())
            except pl.exceptions.PolarsError as error:
                raise self.fault(error) from error
            return
        if self._script is not None:
            yield from (line for line in self._script.lines(self.path) if line.strip())
            return
        yield from (line for line in lines_of(self.path) if not line.isspace())


def _object(line: bytes) -> Any:
    """The object of a line, REPEATED where a name is there twice, or BROKEN."""
    line = line.removeprefix(codecs.BOM_UTF8)
    try:
        found = _decode_object(line)
        is_repeated = len(_NAMES.findall(line)) != len(found) and _has_repeats(line)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return BROKEN
    return REPEATED if is_repeated else found


def _has_repeats(line: bytes) -> bool:
    repeated = False

    def look(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal repeated
        found = dict(pairs)
        repeated |= len(found) != len(pairs)
        return found

    json.loads(line, object_pairs_hook=look)
    return repeated
