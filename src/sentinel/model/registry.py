"""The bundles of a home folder: which there are, and which one is the champion."""

import os
import re
from pathlib import Path

from sentinel.errors import BundleProblem

_VERSION = re.compile(r"v(\d+)")
_CHAMPION_FILE = "champion"


class Registry:
    """The folder `models/` of a home: `v1`, `v2`, ... and a file that names the champion."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def versions(self) -> list[str]:
        """Every version, oldest first."""
        if not self.folder.is_dir():
            return []
        found = [path.name for path in self.folder.iterdir() if path.is_dir() and _VERSION.fullmatch(path.name)]
        return sorted(found, key=lambda name: int(name[1:]))

    def next_version(self) -> str:
        """The version that a new bundle gets."""
        versions = self.versions()
        return f"v{int(versions[-1][1:]) + 1}" if versions else "v1"

    def path(self, version: str) -> Path:
        """Folder of a version. Raises BundleProblem for what is no version here."""
        if version not in self.versions():
            known = ", ".join(self.versions()) or "none yet: run `sentinel train`"
            raise BundleProblem(f"there is no model {version!r} in {self.folder}; there is {known}")
        return self.folder / version

    def champion(self) -> str:
        """The version in charge. Raises BundleProblem when there is none."""
        try:
            return (self.folder / _CHAMPION_FILE).read_text().strip()
        except OSError:
            raise BundleProblem(
                f"{self.folder} has no champion; run `sentinel train`, or `sentinel models promote VERSION`"
            ) from None

    def promote(self, version: str) -> None:
        """Put a version in charge, for good and at once."""
        self.path(version)
        draft = self.folder / f".{_CHAMPION_FILE}.draft"
        with draft.open("w") as handle:
            handle.write(version + "\n")
            handle.flush()
            os.fsync(handle.fileno())
        draft.rename(self.folder / _CHAMPION_FILE)
