"""The archiver: brings an archive up to what is durable of the log, and to the newest snapshots and models."""

import logging
from collections.abc import Callable
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import msgspec

from sentinel.errors import NoObject, StorageProblem
from sentinel.events.times import iso
from sentinel.homes import place_of
from sentinel.objects.store import ObjectStore
from sentinel.record.applied import log_folder
from sentinel.record.archive.catalog import CATALOG, Catalog, catalog_name, read_catalog
from sentinel.record.archive.kept_files import KeptFiles, files_of, private_in
from sentinel.record.archive.place import FOLDER, Mark, mark_of, note_mark
from sentinel.record.archive.segments import archive_segment, durable_stretch, merged, put_part
from sentinel.record.disk import RealDisk
from sentinel.record.log_reader import FileLogReader, naming_faults
from sentinel.record.segment import bases_in, segment_name

_AT_ONCE = 4  # segments or parts of one step
_logger = logging.getLogger(__name__)


class Archiver:
    """Follows the log of a home folder into an archive. Use it from one thread, one at a time for a log.

    After a StorageProblem what was put without being in the catalog does not count, and is put again.
    """

    def __init__(
        self,
        home: Path,
        log: FileLogReader,
        store: ObjectStore,
        rest: Callable[[], None] = lambda: None,
        marks: str = FOLDER,
    ) -> None:
        """`rest` is called after every megabyte; `marks` is the folder of the home where it notes what it has put."""
        self.store, self.log_id = store, log.log_id
        self._marks = marks
        self._home, self._log, self._rest = home, log, rest
        self._folder, self._disk = log_folder(home), RealDisk()
        self._files = KeptFiles(home, store, log.log_id, rest)
        self._name = catalog_name(log.log_id)
        self._catalog: Catalog | None = None
        self._raw = b""

    @property
    def lag(self) -> int:
        """How many durable entries are not in the archive as of the last step."""
        return max(self._log.durable - (self._catalog.end if self._catalog else self._log.first), 0)

    def step(self, now_us: int) -> bool:
        """Put what is new; whether there is more to do at once. Raises StorageProblem."""
        catalog = self._there()
        for _ in range(_AT_ONCE):
            further = self._further(catalog)
            if further == catalog:
                break
            catalog = self._put(further, now_us)
        kept = self._files.kept(files_of(self._home, self.log_id, catalog.end), catalog.files)
        self._put(msgspec.structs.replace(catalog, files=kept, private=private_in(self._home)), now_us)
        return self.lag > 0

    def look_over(self) -> None:
        """Compare the catalog with what is there. Raises StorageProblem.

        What somebody has deleted is put again by the next step; what a run before has put and did not get into the
        catalog, or out of it, is deleted.
        """
        if self._catalog is None:
            return
        catalog, names = self._catalog, {one.name for one in self.store.found(self.log_id)}
        self.store.delete(sorted(name for name in names - catalog.names if not name.endswith((".segment", CATALOG))))
        missing = [
            base
            for base in self._bases()
            if catalog.first <= base < catalog.whole and f"{self.log_id}/{segment_name(base)}" not in names
        ]
        if missing:
            _logger.warning("%s lacks %s of the log; it is put again", self.store.at, segment_name(missing[0]))
            catalog = msgspec.structs.replace(catalog, whole=missing[0], end=missing[0], chain="", parts=())
        if any(one.name not in names for one in catalog.parts):
            catalog = msgspec.structs.replace(catalog, end=catalog.whole, chain="", parts=())
        files = tuple(one for one in catalog.files if one.name in names)
        self._catalog = msgspec.structs.replace(catalog, files=files)

    def _there(self) -> Catalog:
        """The catalog that is there: nobody else writes to it."""
        try:
            raw = self.store.get(self._name)
        except NoObject:
            self._catalog = None
            return self._begun()
        if self._catalog is not None:
            if raw != self._raw:
                raise StorageProblem(
                    f"another process has put entries of this log into {self.store.at}; end one of the two, for they "
                    "write two pasts of it"
                )
            return self._catalog
        return self._taken(read_catalog(raw, self.store.at, self.log_id), raw)

    def _begun(self) -> Catalog:
        """The first catalog of this log. Raises StorageProblem where there was one before."""
        mark = mark_of(self._home, self.store.at, self._marks)
        if mark is not None and mark.log_id == self.log_id:
            raise StorageProblem(
                f"the archive {self.store.at} had this log up to position {mark.end}, and has nothing of it now; bring "
                f"it back, or remove {self._home}/{self._marks} to begin another one there"
            )
        self.store.make()
        first = self._bases()[0]
        return Catalog(log_id=self.log_id, place=str(place_of(self._home)), first=first, whole=first, end=first)

    def _taken(self, catalog: Catalog, raw: bytes) -> Catalog:
        """The catalog that another run has put, once it is sure that this log goes on from what it names."""
        log, bases = self._log, self._bases()
        if catalog.end > log.durable or (catalog.end > bases[0] and not self._continues(catalog, bases)):
            raise StorageProblem(
                f"{self.store.at} has another past of this log, up to position {catalog.end}: `sentinel log restore` "
                "brings that back to an empty home; to go on with this one, name another archive"
            )
        if catalog.whole < bases[0]:  # what is between has left the log
            first = bases[0]
            catalog = msgspec.structs.replace(catalog, first=first, whole=first, end=first, chain="", parts=())
        self._catalog, self._raw = catalog, raw
        self.look_over()
        return self._catalog

    def _continues(self, catalog: Catalog, bases: list[int]) -> bool:
        if catalog.whole not in bases and catalog.whole > bases[0]:
            return False
        return not catalog.chain or self._log.at(catalog.end - 1).chain.hex() == catalog.chain

    def _further(self, catalog: Catalog) -> Catalog:
        """The catalog with the next segment, or the next part of the newest one; the same when nothing is new."""
        log_id, base = self.log_id, catalog.whole
        for one, until in pairwise(self._bases()):
            if one == base:
                archive_segment(self._disk, self._folder, base, until, self.store, log_id, self._rest)
                chain = self._log.at(until - 1).chain.hex()
                return msgspec.structs.replace(catalog, whole=until, end=until, chain=chain, parts=())
        if catalog.end >= self._log.durable:
            return catalog
        path = self._folder / segment_name(base)
        with naming_faults(self._folder, "read"), closing(self._disk.open(path)) as file:
            stretch = durable_stretch(file, base, catalog.parts, catalog.end, self._log.durable)
            if stretch is None:
                return catalog
            stay, begin = merged(catalog.parts, stretch)
            part = put_part(self.store, file, log_id, base, begin, stretch.end, self._rest)
        return msgspec.structs.replace(catalog, end=stretch.next, chain=stretch.chain, parts=(*stay, part))

    def _put(self, catalog: Catalog, now_us: int) -> Catalog:
        """Put the catalog, and then delete what it names no longer."""
        before = self._catalog
        catalog = msgspec.structs.replace(catalog, first=max(catalog.first, self._bases()[0]))
        if before is None or catalog != before:
            catalog = msgspec.structs.replace(catalog, at=iso(now_us))
            raw = msgspec.json.encode(catalog)
            self.store.put(self._name, raw)
            self._catalog, self._raw = catalog, raw
            if before is not None:
                self.store.delete(sorted(before.names - catalog.names))
        note_mark(self._home, self.store.at, Mark(catalog.log_id, catalog.whole, catalog.end), self._marks)
        return catalog

    def _bases(self) -> list[int]:
        with naming_faults(self._folder, "read"):
            return bases_in(self._disk.names(self._folder))
