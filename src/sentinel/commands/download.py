"""Fetching one large file over HTTP: it goes on where it was cut off, and never takes one version for another."""

import base64
import errno
import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import msgspec

from sentinel import __version__
from sentinel.durable import write_durably
from sentinel.errors import DataProblem

_PIECE = 1 << 20
_PARTIAL, _UNSATISFIABLE = 206, 416
_ACCOUNT_NEEDED = (401, 403)
_OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EFBIG, errno.EACCES)
Progress = Callable[[int, int], None]
"""Called with the bytes that are there, and how many there will be; as many as are there where nobody says."""


class Patience(NamedTuple):
    """How often a connection is tried that is cut off, the pause before the next try, how long a silence may last."""

    tries: int = 4
    pause_s: float = 2.0
    silence_s: float = 30.0


PATIENCE = Patience()


class Account(NamedTuple):
    """Who asks, where a source wants to know."""

    name: str
    key: str


class _Begun(msgspec.Struct, frozen=True):
    """What stands beside a part: where it comes from, and what names the version that it is a part of."""

    url: str
    validator: str


class _CutOff(Exception):
    """The connection ended before everything was there; it may be tried again."""


def fetch(
    url: str, part: Path, progress: Progress, account: Account | None = None, patience: Patience = PATIENCE
) -> None:
    """Have what is at `url` in the file `part`, whole. What is in `part` already is kept if it is of the same version.

    Raises DataProblem that says what is in the way; what arrived stays, and the next call goes on from there.
    """
    for left in range(patience.tries - 1, -1, -1):
        try:
            _fetch_on(url, part, progress, account, patience.silence_s)
        except _CutOff as cut:
            if left == 0:
                raise _given_up(url, part, cut) from None
            time.sleep(patience.pause_s)
        else:
            _beside(part).unlink(missing_ok=True)
            return


def _fetch_on(url: str, part: Path, progress: Progress, account: Account | None, silence_s: float) -> None:
    have, begun = _have(part, url)
    asked = urllib.request.Request(url)  # noqa: S310 - the caller has looked at it
    asked.add_header("user-agent", f"sentinel/{__version__}")
    asked.add_header("accept-encoding", "identity")
    if have:
        asked.add_header("range", f"bytes={have}-")
        asked.add_header("if-range", begun)
    if account is not None:  # for this address, and for none that it leads to
        named = base64.b64encode(f"{account.name}:{account.key}".encode()).decode()
        asked.add_unredirected_header("authorization", f"Basic {named}")
    try:
        with urllib.request.urlopen(asked, timeout=silence_s) as answer:  # noqa: S310
            _take(answer, url, part, have if answer.status == _PARTIAL else 0, progress)
    except urllib.error.HTTPError as error:
        with error:
            if error.code == _UNSATISFIABLE:  # the part is longer than what is there now: it is of another version
                part.unlink()
                raise _CutOff("what is there now is shorter than the part of it that is here") from None
            raise _refused(url, error.code) from None
    except urllib.error.URLError as error:
        raise _CutOff(str(error.reason)) from None
    except (OSError, http.client.HTTPException) as error:
        if isinstance(error, OSError) and error.errno in _OF_THE_DISK:
            raise
        raise _CutOff(str(error) or type(error).__name__) from None


def _take(answer: http.client.HTTPResponse, url: str, part: Path, have: int, progress: Progress) -> None:
    """Write what an answer has behind the first `have` bytes."""
    length = answer.headers.get("content-length")
    of = have + int(length) if length is not None and length.isdecimal() else None
    if have == 0:
        validator = _validator(answer)
        write_durably(_beside(part), msgspec.json.encode(_Begun(url, validator)))
    with part.open("r+b" if have else "wb") as file:
        file.seek(have)
        file.truncate()
        while piece := answer.read(_PIECE):
            file.write(piece)
            have += len(piece)
            progress(have, of or have)
    if of is not None and have < of:
        raise _CutOff(f"the connection ended after {have:,} of {of:,} bytes")


def _have(part: Path, url: str) -> tuple[int, str]:
    """How many bytes are here of a version that can be named, and its name; none where they are of something else."""
    try:
        begun = msgspec.json.decode(_beside(part).read_bytes(), type=_Begun)
        size = part.stat().st_size
    except (FileNotFoundError, msgspec.MsgspecError, UnicodeDecodeError):
        return 0, ""
    return (size, begun.validator) if begun.url == url and begun.validator else (0, "")


def _validator(answer: http.client.HTTPResponse) -> str:
    """What names this version, for `If-Range`: a strong tag, or the time of its last change."""
    tag = answer.headers.get("etag", "")
    return tag if tag and not tag.startswith("W/") else answer.headers.get("last-modified", "")


def _beside(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _refused(url: str, status: int) -> DataProblem:
    if status in _ACCOUNT_NEEDED:
        return DataProblem(f"{url} says {status}: it wants an account, or that its terms are accepted there")
    return DataProblem(f"{url} says {status}; if it has moved, say where it is with --url")


def _given_up(url: str, part: Path, cut: _CutOff) -> DataProblem:
    here = part.stat().st_size if part.exists() else 0
    if here:
        return DataProblem(f"{url} was cut off ({cut}); {here:,} bytes are here, run this again to go on from there")
    return DataProblem(f"{url} cannot be reached ({cut}); is there a network, or a proxy to name in https_proxy?")
