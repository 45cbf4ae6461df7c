"""Takes from an environment what nothing imports: tests of libraries, headers, and what would compile or install.

Usage: tidy.py FOLDER
"""

import shutil
import sys
from pathlib import Path

FOLDERS = (
    "numba/tests", "llvmlite/tests", "onnxruntime/transformers", "onnxruntime/tools", "pip", "pip-*", "setuptools",
    "setuptools-*", "wheel", "wheel-*",
)  # fmt: skip
SUFFIXES = (".a", ".c", ".cpp", ".h", ".hpp", ".pxd", ".pyi", ".pyx")


def tidy(folder: Path) -> int:
    """Tidy an environment; the bytes that were taken away."""
    (packages,) = folder.glob("lib/python3.*/site-packages")
    taken = 0
    for path in [found for pattern in FOLDERS for found in packages.glob(pattern)]:
        taken += sum(one.lstat().st_size for one in path.rglob("*") if one.is_file())
        shutil.rmtree(path, ignore_errors=True)
    for path in packages.rglob("*"):
        if path.suffix in SUFFIXES and path.is_file():
            taken += path.stat().st_size
            path.unlink()
    return taken


if __name__ == "__main__":
    sys.stdout.write(f"{tidy(Path(sys.argv[1])) / 1e6:.0f} MB taken away\n")
