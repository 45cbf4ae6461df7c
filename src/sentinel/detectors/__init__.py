"""The presets: one file a detector, and the first examples to read. Copy one and change it."""

import importlib
import pkgutil
import runpy
import traceback
from pathlib import Path

import msgspec

from sentinel.detector import Detector
from sentinel.errors import InvalidDefinition, SentinelError

_FAULTS = (
    ArithmeticError, AssertionError, AttributeError, ImportError, LookupError, NameError, OSError, RuntimeError,
    SentinelError, SyntaxError, TypeError, ValueError,
)  # fmt: skip
"""What a mistake in a file of the user's own raises."""


def preset_names() -> list[str]:
    """The detectors that come with Sentinel."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def load_detector(name: str) -> Detector:
    """The preset of that name, or the detector in a `.py` file. Raises InvalidDefinition."""
    if name in preset_names():
        return _named(vars(importlib.import_module(f"sentinel.detectors.{name}")), name, name)
    path = Path(name)
    if path.suffix != ".py":
        raise InvalidDefinition(
            f"there is no detector {name!r}; take one of {', '.join(preset_names())}, or a .py file"
        )
    if not path.is_file():
        raise InvalidDefinition(f"there is no file {path}")
    try:
        # not imported: that would take the cached bytecode of a file that was edited within the same second
        found = runpy.run_path(str(path))
    except InvalidDefinition as error:
        said = str(error)  # a feature's line is said already, where that is what is wrong
        raise InvalidDefinition(said if said.startswith(f"{path}:") else f"{_line_in(path, error)}: {said}") from error
    except _FAULTS as error:
        raise InvalidDefinition(f"{_line_in(path, error)} fails with {type(error).__name__}: {error}") from error
    return _named(found, str(path), path.stem)


def _line_in(path: Path, error: BaseException) -> str:
    """The file, and the line of it that was run when the error was raised, if one was."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return f"{path}:{lines[-1]}" if lines else str(path)


def _named(found: dict[str, object], where: str, name: str) -> Detector:
    detector = found.get("detector")
    if not isinstance(detector, Detector):
        raise InvalidDefinition(f"{where} has no `detector = Detector(...)`")
    return msgspec.structs.replace(detector, name=name) if detector.name == "detector" else detector
