"""Static files: our own, and those of others with checksums and licences beside them. None comes from elsewhere."""

import hashlib
from functools import cache
from importlib.resources import files

from fastapi import FastAPI, Response

from sentinel.errors import NotFound

_MEDIA = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}
_SUMS = "vendored.sha256"
_FOLDER = files("sentinel.transport.console").joinpath("static")


@cache
def content_of(name: str) -> bytes:
    """A file. Raises NotFound for what is none of ours."""
    served = {one.name for one in _FOLDER.iterdir() if any(one.name.endswith(end) for end in _MEDIA)}
    if name not in served:
        raise NotFound("There is no such file")
    return _FOLDER.joinpath(name).read_bytes()


@cache
def address_of(name: str) -> str:
    """The address of a file, another one whenever its content is another one: browsers may keep it for ever."""
    return f"/static/{hashlib.sha256(content_of(name)).hexdigest()[:12]}/{name}"


def vendored() -> dict[str, str]:
    """The SHA-256 of each file that is not ours, by its name."""
    lines = _FOLDER.joinpath(_SUMS).read_text().splitlines()
    return {name: sha256 for sha256, name in (line.split() for line in lines)}


def sha256_of(name: str) -> str:
    """Of a file as it lies there."""
    return hashlib.sha256(_FOLDER.joinpath(name).read_bytes()).hexdigest()


def add_static_files(app: FastAPI) -> None:
    """Serve them."""

    @app.get("/static/{tag}/{name}")
    async def static(tag: str, name: str) -> Response:
        content = content_of(name)
        media = next(media for end, media in _MEDIA.items() if name.endswith(end))
        lasts = "max-age=31536000, immutable" if address_of(name).split("/")[2] == tag else "no-cache"
        return Response(content, media_type=media, headers={"cache-control": lasts})
