"""Whether anything in the image of the server has a known hole that its makers have mended: Debian's half and Python's.

Debian's archive of security updates is asked for newer versions of what is in the image, pip-audit for holes of what is
in it of Python. Where nobody answers the line says "not checked", and `--must-check` makes that a failure.
"""

import argparse
import importlib.util
import sys
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

from deploy.image.build import name_of
from deploy.image.contents import found_in
from deploy.image.engine import ROOT, EngineFailed, podman

OURS = "sentinel-fraud"
_NOBODY = 9
_ASK = f"""
apt-get -qq update >/dev/null 2>&1 || exit {_NOBODY}
apt-cache policy | grep -q security || exit {_NOBODY}
apt-get -s -qq dist-upgrade | sed -n 's/^Inst \\([^ ]*\\) \\[\\([^]]*\\)\\] (\\([^ ]*\\).*/\\1 \\2, mended in \\3/p'
"""


def audit() -> ModuleType:
    """The project's own audit, whose rows and words these are."""
    place = importlib.util.spec_from_file_location("audit", ROOT / ".ci" / "audit.py")
    if place is None or place.loader is None:
        raise FileNotFoundError(".ci/audit.py")
    module = importlib.util.module_from_spec(place)
    place.loader.exec_module(module)
    return module


def outdated(image: str) -> list[str] | None:
    """Packages of Debian in an image for which there is a newer version; None where the archive does not answer."""
    command = [
        "run",
        "--rm",
        "--pull=never",
        "--network=host",
        "--user=0",
        "--entrypoint",
        "/bin/sh",
        image,
        "-c",
        _ASK,
    ]
    try:
        return podman(*command).splitlines()
    except EngineFailed as failed:
        if f"ended with {_NOBODY}:" in str(failed):
            return None
        raise


def rows(image: str) -> list[Any]:
    """A row for each half, as the audit's table has them."""
    with_words = audit()

    def of_debian() -> str:
        found = outdated(image)
        if found is None:
            raise with_words.NotChecked("Debian's archive does not answer")
        if found:
            raise RuntimeError("; ".join(found) + "; make image ARGS=--fresh-base")
        return f"{len(found_in(image)['debian'])} packages, none has a newer version"

    def of_python() -> str:
        with tempfile.TemporaryDirectory() as folder:
            pinned = Path(folder) / "requirements.txt"
            pinned.write_text(f"{with_words.VULNERABLE}\n")
            if not with_words.holes_of(pinned):
                raise with_words.NotChecked(f"no database here knows the holes of {with_words.VULNERABLE}")
            packages = [f"{name}=={version}" for name, version, *_ in found_in(image)["python"] if name != OURS]
            pinned.write_text("\n".join(packages))
            found = with_words.holes_of(pinned, strict=True)
        if found:
            raise RuntimeError(", ".join(found))
        return f"{len(packages)} packages, no known vulnerability"

    return [with_words.row_of("Debian's packages", of_debian), with_words.row_of("Python's packages", of_python)]


def main() -> int:
    """Print the table; 1 when something has failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--must-check", action="store_true", help="what could not be checked has failed")
    given = parser.parse_args()
    found = rows(name_of("serving"))
    for row in found:
        sys.stdout.write(f"{row.result:<12} {row.what:<34} {row.found}\n")
    bad = {"FAILED", "not checked"} if given.must_check else {"FAILED"}
    return 1 if any(row.result in bad for row in found) else 0


if __name__ == "__main__":
    sys.exit(main())
