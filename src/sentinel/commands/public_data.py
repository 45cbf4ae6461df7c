"""`sentinel data get`: the public data of the references, fetched once, verified each time, unpacked."""

import hashlib
import os
import urllib.parse
import zipfile
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

import msgspec

from sentinel.commands.download import PATIENCE, Account, Patience, Progress, fetch
from sentinel.commands.handbook_days import join_days
from sentinel.durable import make_folder, sync_folder, write_durably
from sentinel.errors import DataProblem, InvalidDefinition

_PIECE = 1 << 20
Stage = Callable[[str, int, int], None]


class Source(NamedTuple):
    """Where a data set is, the file that it becomes here, and which members of an archive are in it.

    `unpack` makes the file of these members; without it there is one, which is the file. `login` names the variables
    of the environment that have the account, where the source wants one.
    """

    url: str
    file: str
    members: str
    licence: str
    login: tuple[str, str] | None = None
    unpack: Callable[[zipfile.ZipFile, list[str], Path], None] | None = None


SOURCES: Mapping[str, Source] = {
    "creditcard": Source(
        "https://storage.googleapis.com/download.tensorflow.org/data/creditcard.csv", "creditcard.csv",
        "*creditcard.csv", "Database Contents License 1.0, ULB Machine Learning Group",
    ),
    "ieee": Source(
        "https://www.kaggle.com/api/v1/competitions/data/download-all/ieee-fraud-detection", "train_transaction.csv",
        "*train_transaction.csv", "the rules of the competition IEEE-CIS Fraud Detection, to be accepted there",
        login=("KAGGLE_USERNAME", "KAGGLE_KEY"),
    ),
    "handbook": Source(
        "https://github.com/Fraud-Detection-Handbook/simulated-data-raw/archive/refs/heads/main.zip",
        "handbook.parquet", "*/data/*.pkl", "none is stated; cite Le Borgne and others, ULB 2022", unpack=join_days,
    ),
}  # fmt: skip


class Fetched(msgspec.Struct, frozen=True):
    """What is known of a file: where it came from, and the SHA-256 of what was fetched and of the file made of it.

    `url` is empty for a file that somebody else put there.
    """

    url: str
    fetched_sha256: str
    file_sha256: str
    at: str


class Got(msgspec.Struct, frozen=True):
    """The file, and how it came: `fetched`, `verified` against what is on record, or `recorded` for the first time."""

    name: str
    file: str
    how: str
    sha256: str
    bytes: int
    licence: str


def get_data(
    name: str, into: Path, url: str | None, sha256: str | None, stage: Stage,
    environment: Mapping[str, str] = os.environ, patience: Patience = PATIENCE,
) -> Got:  # fmt: skip
    """Have a data set in the folder `into`. `sha256` is that of what is fetched, or of the file that is there.

    Raises InvalidDefinition for an unknown name or no SHA-256, DataProblem for what cannot be fetched or is not what it
    should be.
    """
    if name not in SOURCES:
        raise InvalidDefinition(f"there is no data set {name!r}; take {', '.join(SOURCES)}")
    wanted = _checked_hash(sha256)
    source = SOURCES[name]
    file = into / source.file
    make_folder(into)
    if file.exists():
        return _verified(name, file, wanted, stage)
    address = url or source.url
    if urllib.parse.urlsplit(address).scheme not in ("http", "https"):
        raise InvalidDefinition(f"--url is {address!r}; give an address that begins with http:// or https://")
    part = into / f"{source.file}.part"
    fetch(address, part, _told(stage, "fetching"), _account(source, address, environment), patience)
    digest = _sha256(part, _told(stage, "verifying"))
    if wanted is not None and digest != wanted:
        part.unlink()
        raise DataProblem(f"{address} has the SHA-256 {digest}, not {wanted}; what was fetched is removed")
    _make_file(source, part, file)
    made = _sha256(file, _told(stage, "verifying")) if part.exists() else digest
    part.unlink(missing_ok=True)
    _record(file, Fetched(address, digest, made, datetime.now(UTC).isoformat(timespec="seconds")))
    return Got(name, str(file), "fetched", digest, file.stat().st_size, source.licence)


def _verified(name: str, file: Path, wanted: str | None, stage: Stage) -> Got:
    """A file that is there already, compared with what is on record, or put on record."""
    digest, known = _sha256(file, _told(stage, "verifying")), _recorded(file)
    if known is not None and digest != known.file_sha256:
        raise DataProblem(
            f"{file} was altered after {known.at} (its SHA-256 is {digest}, {known.file_sha256} is on record); "
            "remove it to fetch it again"
        )
    if wanted is not None and wanted not in (digest, known.fetched_sha256 if known else digest):
        raise DataProblem(f"{file} has the SHA-256 {digest}, not {wanted}; remove it to fetch it")
    if known is None:
        _record(file, Fetched("", digest, digest, datetime.now(UTC).isoformat(timespec="seconds")))
    how = "recorded" if known is None else "verified"
    return Got(name, str(file), how, digest, file.stat().st_size, SOURCES[name].licence)


def _make_file(source: Source, part: Path, file: Path) -> None:
    """Put what was fetched in its place, out of its archive where it is in one; the file appears whole."""
    if not zipfile.is_zipfile(part):
        if source.unpack is not None:
            raise DataProblem(f"what was fetched for {file.name} is no zip archive; remove {part}, and check --url")
        part.replace(file)
        sync_folder(file.parent)
        return
    draft = file.with_name(f".{file.name}.draft")
    try:
        with zipfile.ZipFile(part) as archive:
            members = sorted(one for one in archive.namelist() if fnmatch(f"/{one}", source.members))
            if not members:
                raise DataProblem(f"the archive has no {source.members}; it has {', '.join(archive.namelist()[:5])}")
            (source.unpack or _copy)(archive, members, draft)
    except (zipfile.BadZipFile, EOFError) as error:
        raise DataProblem(f"the archive cannot be read ({error}); remove {part} and fetch it again") from error
    draft.replace(file)
    sync_folder(file.parent)


def _copy(archive: zipfile.ZipFile, members: list[str], draft: Path) -> None:
    if len(members) > 1:
        raise DataProblem(f"the archive has {len(members)} files that could be meant: {', '.join(members[:5])}")
    with archive.open(members[0]) as packed, draft.open("wb") as out:
        while piece := packed.read(_PIECE):
            out.write(piece)


def _account(source: Source, address: str, environment: Mapping[str, str]) -> Account | None:
    """The account for a source that wants one. It is sent to that source alone, never to the address of `--url`."""
    if source.login is None or address != source.url:
        return None
    name, key = (environment.get(variable, "") for variable in source.login)
    if not (name and key):
        raise DataProblem(
            f"{source.url} gives its data to those with an account: accept its rules there, and set "
            f"{' and '.join(source.login)}; or fetch it yourself and put {source.file} there, or give --url"
        )
    return Account(name, key)


def _checked_hash(sha256: str | None) -> str | None:
    if sha256 is None:
        return None
    wanted = sha256.strip().lower()
    if len(wanted) != 64 or not all(one in "0123456789abcdef" for one in wanted):
        raise InvalidDefinition(f"--sha256 is {sha256!r}; give the 64 hexadecimal digits that `sha256sum` prints")
    return wanted


def _sha256(path: Path, progress: Progress) -> str:
    digest, done, of = hashlib.sha256(), 0, path.stat().st_size
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            digest.update(piece)
            done += len(piece)
            progress(done, of)
    return digest.hexdigest()


def _told(stage: Stage, what: str) -> Progress:
    return lambda done, of: stage(what, done, of)


def _record(file: Path, fetched: Fetched) -> None:
    write_durably(_record_of(file), msgspec.json.format(msgspec.json.encode(fetched)))


def _recorded(file: Path) -> Fetched | None:
    path = _record_of(file)
    try:
        return msgspec.json.decode(path.read_bytes(), type=Fetched)
    except FileNotFoundError:
        return None
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise DataProblem(f"{path} cannot be read ({error}); remove it to have {file.name} recorded anew") from error


def _record_of(file: Path) -> Path:
    return file.with_name(f"{file.name}.origin.json")
