"""A feature state as bytes: named arrays in NumPy's npz, uncompressed, each with a CRC.

What is read may have been made by anyone: nothing in it is taken for what it says before it was checked. Uncompressed
parts that do not overlap cannot hold more than the file does, so whoever bounds the file bounds the memory.
"""

import io
import math
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Mapping
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from sentinel.errors import StorageProblem
from sentinel.features.memory import memory_bytes

MOST_PARTS, MOST_NAME = 256, 64
DAMAGE = (
    ArithmeticError, EOFError, LookupError, MemoryError, OSError, RuntimeError, SyntaxError, TypeError, ValueError,
    struct.error, tokenize.TokenError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
"""What `zipfile` and NumPy raise of bytes that are not as they were written, or never were an archive."""

_KINDS = frozenset(map(np.dtype, ("uint8", "uint64", "int64")))
_PIECE = 1 << 18


def most_bytes() -> int:
    """How large a packed state may be: half of the memory there is, as what is made of it needs room beside it."""
    return memory_bytes() // 2


def pack(snapshot: Mapping[str, NDArray[Any]]) -> bytes:
    """A snapshot as bytes."""
    buffer = io.BytesIO()
    write_packed(snapshot, buffer)
    return buffer.getvalue()


def write_packed(snapshot: Mapping[str, NDArray[Any]], file: IO[bytes]) -> None:
    """Write what `pack` returns to a file, in small pieces."""
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in snapshot.items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as entry:
                header = np.lib.format.header_data_from_array_1_0(array)
                np.lib.format.write_array_header_1_0(entry, header)
                flat = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
                for begin in range(0, len(flat), _PIECE):
                    entry.write(flat[begin : begin + _PIECE])


def unpack(data: bytes) -> dict[str, NDArray[Any]]:
    """The snapshot that `pack` wrote: arrays (n,) of uint8, uint64 or int64.

    Raises StorageProblem when the bytes are damaged, or no such snapshot.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return {name: _read(archive, part) for name, part in parts_of(archive, len(data)).items()}
    except DAMAGE as error:
        raise StorageProblem(f"the snapshot is damaged ({error})") from error


def read_part(archive: zipfile.ZipFile, size: int, name: str) -> NDArray[Any]:
    """One array of a packed state of `size` bytes. Raises StorageProblem, KeyError, and what `DAMAGE` names."""
    return _read(archive, parts_of(archive, size)[name])


def parts_of(archive: zipfile.ZipFile, size: int) -> dict[str, zipfile.ZipInfo]:
    """The parts of a packed state that is `size` bytes long, by name. Raises StorageProblem unless all is plain."""
    parts = archive.infolist()
    named = {part.filename.removesuffix(".npy"): part for part in parts}
    is_plain = all(
        part.compress_type == zipfile.ZIP_STORED
        and part.compress_size == part.file_size
        and part.filename.endswith(".npy")
        and len(part.filename) <= MOST_NAME
        for part in parts
    )
    if not is_plain or len(named) != len(parts) or len(parts) > MOST_PARTS:
        raise StorageProblem(
            f"this is no packed state: a file of up to {MOST_PARTS} parts of different names, none compressed"
        )
    if sum(part.file_size for part in parts) > size:
        raise StorageProblem("the parts of the state overlap")
    return named


def _read(archive: zipfile.ZipFile, part: zipfile.ZipInfo) -> NDArray[Any]:
    """An array (n,), whose header says what is there. The CRC is checked with the last byte."""
    with archive.open(part) as entry:
        np.lib.format.read_magic(entry)
        shape, _, dtype = np.lib.format.read_array_header_1_0(entry)
        if dtype not in _KINDS or len(shape) != 1:
            raise StorageProblem(f"{part.filename} is no array (n,) of whole numbers, but {dtype} {shape}")
        raw = entry.read()
    if len(raw) != math.prod(shape) * dtype.itemsize:
        raise StorageProblem(f"{part.filename} has {len(raw)} bytes, and says it is {dtype} {shape}")
    return np.frombuffer(raw, dtype)
