"""Makes the image that the others are built on, where none can be pulled: Debian 12 with Python 3.11 and nothing else.

Debian's own programs make it, from its mirror with all security updates. A mirror that serves one day
(`SENTINEL_DEBIAN=http://snapshot.debian.org/archive/debian/20261101T000000Z`) makes the same again. The mirrors of
today do not, so versions are written down: in the label `sentinel.debian`, a hash over all packages, and in the SBOM.
"""

import hashlib
import os
import shutil
from pathlib import Path

from deploy.image.engine import FOLDER, buildah, called

SUITE = "bookworm"
NAME = f"localhost/sentinel-base:python3.11-{SUITE}"
MIRROR = "http://deb.debian.org/debian"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
"""Without it debootstrap would only warn, and go on with what nobody has signed."""
INCLUDED = ("ca-certificates", "python3", "python3-venv")
_LEFT_OUT = ("usr/share/doc", "usr/share/man", "usr/share/info", "usr/share/lintian", "usr/share/locale",
             "usr/share/pixmaps", "var/cache", "var/lib/apt/lists", "var/log")  # fmt: skip
_KEPT = ("copyright",)  # what licences ask for


def make() -> str:
    """Make the base afresh and give it its name; that name."""
    mirror = os.environ.get("SENTINEL_DEBIAN", MIRROR).rstrip("/")
    root = FOLDER / "rootfs"
    shutil.rmtree(root, ignore_errors=True)
    called("debootstrap", "--variant=minbase", "--force-check-gpg", f"--keyring={KEYRING}",
           f"--include={','.join(INCLUDED)}", SUITE, root, mirror, patience_s=1800)  # fmt: skip
    _update(root, mirror)
    packages = called("chroot", root, "dpkg-query", "--show", "--showformat", "${Package} ${Version}\n")
    _tidy(root)
    container = buildah("from", "scratch")
    try:
        buildah("add", "--quiet", container, root, "/")
        digest = hashlib.sha256(packages.encode()).hexdigest()
        buildah("config", "--cmd", "python3", "--env", "LANG=C.UTF-8", "--label", f"sentinel.debian={digest}",
                "--label", f"org.opencontainers.image.title=Debian {SUITE} with Python 3.11", container)  # fmt: skip
        buildah("commit", "--quiet", "--format", "docker", container, NAME)
    finally:
        buildah("rm", container)
    shutil.rmtree(root)
    return NAME


def is_there() -> bool:
    """Whether the base has been made here."""
    return NAME in buildah("images", "--format", "{{.Name}}:{{.Tag}}").split()


def sources(mirror: str) -> str:
    """The lines for apt: the suite, its updates, and security, on the same day where the mirror has one."""
    security = mirror.replace("/debian", "/debian-security", 1) if "/archive/" not in mirror else mirror.replace(
        "/archive/debian/", "/archive/debian-security/", 1
    )  # fmt: skip
    return "".join(
        f"deb {where} {suite} main\n"
        for where, suite in ((mirror, SUITE), (mirror, f"{SUITE}-updates"), (security, f"{SUITE}-security"))
    )


def _update(root: Path, mirror: str) -> None:
    """Bring in what Debian has mended since the suite came out."""
    (root / "etc" / "apt" / "sources.list").write_text(sources(mirror))
    options = ("-o", "Acquire::Check-Valid-Until=false") if "/archive/" in mirror else ()
    called("chroot", root, "apt-get", *options, "-qq", "update")
    called("chroot", root, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq", "-y", "dist-upgrade")


def _tidy(root: Path) -> None:
    """Leave out what only people and package managers read."""
    for name in _LEFT_OUT:
        for path in sorted((root / name).rglob("*"), reverse=True):
            if path.is_dir() and not path.is_symlink():
                if not any(path.iterdir()):
                    path.rmdir()
            elif path.name not in _KEPT:
                path.unlink()
    for path in (root / "usr" / "lib" / "python3.11").rglob("__pycache__"):
        shutil.rmtree(path)
