"""A detector: one kind of transaction, its features, its policy and how it is trained, in one Python file."""

import importlib
import importlib.util
import pkgutil
import sys
from pathlib import Path

import msgspec

import sentinel.detectors as presets
from sentinel.errors import InvalidDefinition
from sentinel.events.schema import Schema
from sentinel.features.definitions import Feature
from sentinel.features.plan import FeaturePlan, compile_plan
from sentinel.policy.thresholds import Policy


class Training(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How the model is fitted. The names from `max_depth` on are XGBoost's own.

    History is split by time: the last `test_share` is only ever reported on, the `validation_share` before it
    stops the fit early and sets the thresholds, the rest is learned from. `gap` leaves out as much time before
    the validation and before the test part, for histories whose labels come late. Categories seen fewer than
    `rare_below` times in training share the code of the unknown.
    """

    validation_share: float = 0.15
    test_share: float = 0.15
    gap: str | None = None
    rare_below: int = 20
    trees: int = 600
    patience: int = 50
    seed: int = 42
    max_depth: int = 6
    learning_rate: float = 0.05
    subsample: float = 0.9
    colsample_bytree: float = 0.8
    min_child_weight: float = 1.0
    reg_lambda: float = 1.0
    gamma: float = 0.0
    scale_pos_weight: float = 1.0
    tree_method: str = "hist"
    max_bin: int = 256

    def __post_init__(self) -> None:
        if not (self.validation_share > 0 and self.test_share > 0 and self.validation_share + self.test_share < 0.9):
            raise InvalidDefinition("training: validation_share and test_share must be positive and below 0.9 together")


class Detector(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Everything a team declares about one kind of transaction."""

    schema: Schema
    features: tuple[Feature, ...]
    policy: Policy = Policy()
    training: Training = Training()
    name: str = "detector"

    def __post_init__(self) -> None:
        compile_plan(self.plan({}))

    def plan(self, vocabulary: dict[str, tuple[str, ...]]) -> FeaturePlan:
        """The feature plan, once the categories are known."""
        return FeaturePlan(self.schema, self.features, vocabulary)

    @property
    def categorical(self) -> tuple[str, ...]:
        """Fields whose values are learned as codes."""
        return tuple(feature.of or "" for feature in self.features if feature.kind == "category")


def preset_names() -> list[str]:
    """The detectors that come with Sentinel."""
    return sorted(module.name for module in pkgutil.iter_modules(presets.__path__))


def load_detector(name: str) -> Detector:
    """The preset of that name, or the detector in a `.py` file. Raises InvalidDefinition."""
    if name in preset_names():
        module = importlib.import_module(f"sentinel.detectors.{name}")
        return _named(module, name, name)
    path = Path(name)
    if path.suffix != ".py":
        raise InvalidDefinition(f"there is no detector {name!r}; take one of {', '.join(preset_names())}, or a .py file")
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
