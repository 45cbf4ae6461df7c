"""The catalog of an archive: what it has of a log. It is put last, so what is not complete is not in it."""

import hashlib
from pathlib import Path

import msgspec

from sentinel.errors import NoObject, StorageProblem
from sentinel.objects.store import ObjectStore

FORMAT = 1
CATALOG = "catalog.json"


class Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Bytes of the newest segment, from the offset `begin` on, and the name of the object that has them."""

    name: str
    begin: int
    bytes: int
    sha256: str


class KeptFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file of the home folder, by its path there, and the name of the object that has it."""

    path: str
    name: str
    bytes: int
    sha256: str


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Catalog(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the archive has of a log: its entries from position `first` up to `end`.

    Segments before the position `whole` are there as they are; the one that begins at it is in `parts`. `chain` is that
    of the last record before `end`, empty when there is none. `private` are the files of the home folder that are never
    archived. `place` is whose detector it is, `at` when the catalog was put.
    """

    format: int = FORMAT
    log_id: str
    place: str
    first: int
    whole: int
    end: int
    chain: str = ""
    parts: tuple[Part, ...] = ()
    files: tuple[KeptFile, ...] = ()
    private: tuple[str, ...] = ()
    at: str = ""

    @property
    def names(self) -> set[str]:
        """The objects that it names."""
        return {one.name for one in self.parts} | {one.name for one in self.files}


def catalog_name(log_id: str) -> str:
    """The name of the object with the catalog of a log."""
    return f"{log_id}/{CATALOG}"


def read_catalog(raw: bytes, at: str, log_id: str) -> Catalog:
    """The catalog of a log in the archive at `at`; it names objects of that log alone. Raises StorageProblem."""
    where = f"{at}/{log_id}"
    try:
        found = msgspec.json.decode(raw, type=Catalog)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise StorageProblem(f"the catalog in {where} cannot be read: {error}; name another archive") from error
    if found.format != FORMAT:
        raise StorageProblem(f"the catalog in {where} was written by a newer version of Sentinel; run that")
    if found.log_id != log_id or not all(_is_of(log_id, name) for name in found.names):
        raise StorageProblem(f"the catalog in {where} names what is not of this log; name another archive")
    return found


def _is_of(log_id: str, name: str) -> bool:
    """Whether an object is one of a log's own: a folder would give out any file of the machine for such a name."""
    return name.startswith(f"{log_id}/") and ".." not in name.split("/") and name.isprintable()


def catalogs_in(store: ObjectStore) -> dict[str, Catalog]:
    """The catalogs of all logs in an archive, by the logs' ids. Raises StorageProblem."""
    found = {}
    for log_id in store.parts():
        try:
            found[log_id] = read_catalog(store.get(catalog_name(log_id)), store.at, log_id)
        except NoObject:
            continue  # nothing of it is complete
    return found
