"""The port of a store of objects: whatever is in it is whole, or not there."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from secrets import token_hex
from typing import NamedTuple, Protocol

from sentinel.errors import NoObject, StorageProblem


class Found(NamedTuple):
    """An object: its name, how large it is, and when it was put there by the clock of the store."""

    name: str
    bytes: int
    changed: datetime


class ObjectStore(Protocol):
    """Objects below one address. Names have parts with `/` between them.

    Every method raises StorageProblem where the store cannot be reached or refuses; the message says what to do.
    """

    @property
    def at(self) -> str:
        """Where, for people, and the same for every store of the same objects."""

    def make(self) -> None:
        """Make the bucket or the folder, unless there is one."""

    def put(self, name: str, data: bytes) -> None:
        """Put an object, in the place of one of this name. Raises NoObject where there is no bucket."""

    def create(self, name: str, data: bytes) -> None:
        """The same where there is none of this name. Raises ObjectTaken where there is, and leaves it as it is."""

    def upload(self, name: str, pieces: Iterable[bytes]) -> None:
        """Put a large object without having it in memory. What `pieces` raise is raised, and nothing is put then."""

    def get(self, name: str) -> bytes:
        """All of an object. Raises NoObject."""

    def beginning(self, name: str, length: int) -> bytes:
        """The first bytes of an object that has so many. Raises NoObject."""

    def pieces(self, name: str) -> Iterator[bytes]:
        """A large object, piece by piece. Raises NoObject."""

    def found(self, below: str = "") -> list[Found]:
        """The objects in a part of the store such as `v3`, in order; none where there is no bucket."""

    def parts(self) -> list[str]:
        """The first parts of all names that have several, in order."""

    def delete(self, names: Sequence[str]) -> None:
        """Delete objects; one that is not there is gone already."""


def exercise(store: ObjectStore) -> None:
    """Put an object, read it back, and delete it. Raises StorageProblem."""
    name, data = f"exercise-{token_hex(8)}", token_hex(8).encode()
    try:
        store.put(name, data)
    except NoObject:
        raise StorageProblem(f"{store.at}: there is no such bucket yet; make it, or the first write does") from None
    try:
        found = store.get(name)
    finally:
        store.delete([name])
    if found != data:
        raise StorageProblem(f"{store.at} did not give back what was put there")
