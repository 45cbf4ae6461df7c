"""The presets: one file a detector, and the first examples to read. Copy one and change it."""

import importlib
import importlib.util
import pkgutil
import sys
from pathlib import Path

import msgspec

from sentinel.detector import Detector
from sentinel.errors import InvalidDefinition


def preset_names() -> list[str]:
    """The detectors that come with Sentinel."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def load_detector(name: str) -> Detector:
    """The preset of that name, or the detector in a `.py` file. Raises InvalidDefinition."""
    if name in preset_names():
        module = importlib.import_module(f"sentinel.detectors.{name}")
        return _named(module, name, name)
    path = Path(name)
    if path.suffix != ".py":
        raise InvalidDefinition(
            f"there is no detector {name!r}; take one of {', '.join(preset_names())}, or a .py file"
        )
    if not path.is_file():
        raise InvalidDefinition(f"there is no file {path}")
    spec = importlib.util.spec_from_file_location(f"sentinel_detector_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise InvalidDefinition(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except InvalidDefinition as error:
        raise InvalidDefinition(f"{path}: {error}") from error
    except Exception as error:
        raise InvalidDefinition(f"{path} fails with {type(error).__name__}: {error}") from error
    return _named(module, str(path), path.stem)


def _named(module: object, where: str, name: str) -> Detector:
    detector = getattr(module, "detector", None)
    if not isinstance(detector, Detector):
        raise InvalidDefinition(f"{where} has no `detector = Detector(...)`")
    return msgspec.structs.replace(detector, name=name) if detector.name == "detector" else detector
