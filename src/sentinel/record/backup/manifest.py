"""What a backup has, beside its archive of the log. It is put last, so what is not complete is not in it."""

import re
from collections.abc import Mapping

import msgspec

from sentinel.errors import InvalidDefinition, NoObject, StorageProblem
from sentinel.homes import DETECTORS, NAME, TENANTS
from sentinel.objects.store import ObjectStore
from sentinel.record.archive.catalog import KeptFile

FORMAT = 1
BACKUP, SECRETS = "backup.json", "secrets.json"
WRITTEN = "written.db"
SECRET = ("hash.key", "hash-keys.json", "access", "people.db", "subjects.db")
"""What of a home folder is in the secrets: who has a backup shall not have these."""

_OBJECT = re.compile(r"files/[0-9a-f]{16}-[A-Za-z0-9._-]+")
_ACCESS = re.compile(r"access/[A-Za-z0-9_-][A-Za-z0-9._-]*")


class HomeCopy(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The files of one detector's home, and of what log: `folder` is where it is below the server's home.

    The files belong to the log's entries before `end`.
    """

    folder: str
    log_id: str
    end: int
    files: tuple[KeptFile, ...] = ()


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A backup, or the secrets of one: written by this version of Sentinel, begun at `at`."""

    format: int = FORMAT
    version: str
    at: str
    homes: tuple[HomeCopy, ...]

    @property
    def names(self) -> set[str]:
        """The objects that it names."""
        return {one.name for home in self.homes for one in home.files}


def check_is_of(store: ObjectStore, name: str, logs: Mapping[str, str]) -> None:
    """Raise InvalidDefinition where a store has the backup of another log, which one of these would replace.

    `logs` are the ids of the logs by the folders of their homes. A new server on an empty disk would otherwise delete
    the last copy of what the lost one had.
    """
    try:
        store.get(name)
    except NoObject:
        return
    for one in read_manifest(store, name).homes:
        if logs.get(one.folder, one.log_id) != one.log_id:
            raise InvalidDefinition(
                f"{store.at} has the backup of another log ({one.log_id}, here is {logs[one.folder]}), which would be "
                "deleted: name another place"
            )


def put_manifest(store: ObjectStore, name: str, manifest: Manifest) -> None:
    """Put it in the place of the one before, and delete the files that it does not name. Raises StorageProblem."""
    store.put(name, msgspec.json.encode(manifest))
    store.delete(sorted({one.name for one in store.found("files")} - manifest.names))


def read_manifest(store: ObjectStore, name: str) -> Manifest:
    """The manifest in a store. It names nothing outside of its own files and a home. Raises StorageProblem."""
    try:
        raw = store.get(name)
    except NoObject:
        raise StorageProblem(
            f"{store.at} has no {name}: it is no {name.removesuffix('.json')} that was finished"
        ) from None
    try:
        found = msgspec.json.decode(raw, type=Manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise StorageProblem(f"{name} in {store.at} cannot be read: {error}; name another one") from error
    if found.format != FORMAT:
        raise StorageProblem(f"{name} in {store.at} was written by a newer version of Sentinel; run that")
    paths = {one.path for home in found.homes for one in home.files}
    are_known = all(path == WRITTEN if name == BACKUP else _is_secret(path) for path in paths)
    if not (
        are_known and all(map(_OBJECT.fullmatch, found.names)) and all(_is_place(one.folder) for one in found.homes)
    ):
        raise StorageProblem(f"{name} in {store.at} names what is no file of a backup; name another one")
    return found


def _is_secret(path: str) -> bool:
    return (path in SECRET and path != "access") or bool(_ACCESS.fullmatch(path))


def _is_place(folder: str) -> bool:
    """Whether a folder is one that a home can be in, below the first one.

    >>> [_is_place(one) for one in ("", "detectors/wallet", "tenants/acme/detectors/gold", "../etc", "models")]
    [True, True, True, False, False]
    """
    parts = folder.split("/") if folder else []
    kinds, names = parts[0::2], parts[1::2]
    is_known = kinds in ([], [DETECTORS], [TENANTS], [TENANTS, DETECTORS])
    return is_known and len(kinds) == len(names) and all(map(NAME.fullmatch, names))
