"""What CHANGELOG.md says of a release: `changes.py cut 1.2.3` names what is unreleased so, `notes 1.2.3` prints it.

A version is a heading `## 1.2.3 (2026-11-30)`; what comes next stands under `## Unreleased`, which is always there.
"""

import re
import sys
from datetime import UTC, datetime
from pathlib import Path

CHANGES = Path(__file__).parents[1] / "CHANGELOG.md"
_UNRELEASED = "## Unreleased\n"
_VERSION = re.compile(r"\d+\.\d+\.\d+(rc\d+)?")


class NotInForm(Exception):
    """The file, or the version, is not as it has to be."""


def cut(text: str, version: str, day: str) -> str:
    """The text in which what was unreleased is `version`, of this day."""
    if not _VERSION.fullmatch(version):
        raise NotInForm(f"{version} is no version: write 1.2.3, or 1.2.3rc1")
    if f"\n## {version} (" in text:
        raise NotInForm(f"{version} is in the changes already")
    if text.count(f"\n{_UNRELEASED}") != 1:
        raise NotInForm("the changes need one heading `## Unreleased`")
    before, rest = text.split(f"\n{_UNRELEASED}")
    if not rest.partition("\n## ")[0].strip():
        raise NotInForm("nothing is unreleased")
    return f"{before}\n{_UNRELEASED}\n## {version} ({day})\n{rest}"


def notes(text: str, version: str) -> str:
    """What the text says of a version, without its heading."""
    found = re.search(rf"(?ms)^## {re.escape(version)} \(\d{{4}}-\d\d-\d\d\)\n(.*?)(?=^## |\Z)", text)
    if found is None or not found.group(1).strip():
        raise NotInForm(f"the changes do not say what is in {version}: python .ci/changes.py cut {version}")
    return found.group(1).strip() + "\n"


def main(arguments: list[str]) -> None:
    """Do what the first argument says, for the version that is the second."""
    if len(arguments) != 2 or arguments[0] not in ("cut", "notes"):
        sys.exit("python .ci/changes.py cut|notes VERSION")
    doing, version = arguments
    try:
        if doing == "cut":
            CHANGES.write_text(cut(CHANGES.read_text(), version, datetime.now(UTC).date().isoformat()))
        else:
            sys.stdout.write(notes(CHANGES.read_text(), version))
    except NotInForm as problem:
        sys.exit(str(problem))


if __name__ == "__main__":
    main(sys.argv[1:])
