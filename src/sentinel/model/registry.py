"""The registry: the bundles of a home folder."""

import re
from pathlib import Path

from sentinel.errors import BundleProblem

_VERSION = re.compile(r"v(\d+)")


class Registry:
    """The folder `models/` of a home: `v1`, `v2`, ..."""

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
