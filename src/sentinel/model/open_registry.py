"""Opens the registry of a home: in its folder, or in S3 where SENTINEL_MODELS says so."""

import os
from collections.abc import Mapping
from pathlib import Path

from sentinel.errors import InvalidDefinition
from sentinel.homes import place_of
from sentinel.model.registry import ModelStore, Registry, TrustedKeys


def open_registry(
    folder: Path, address: str | None, trusted: TrustedKeys = frozenset(), environment: Mapping[str, str] = os.environ
) -> Registry:
    """The registry whose copies are in `folder`, the folder `models` of a home. Nothing is asked of S3 yet.

    The homes of other detectors and tenants have theirs below the same address. Raises InvalidDefinition.
    """
    return Registry(folder, trusted, None if address is None else _store(folder, address, environment))


def _store(folder: Path, address: str, environment: Mapping[str, str]) -> ModelStore:
    try:
        from sentinel.model.s3_models import S3Models  # only who keeps models in S3 needs the library
    except ModuleNotFoundError as error:
        raise InvalidDefinition(
            f"SENTINEL_MODELS is {address}, and {error.name} is not installed: pip install 'sentinel-fraud[s3]'"
        ) from error
    below = place_of(folder.parent).below
    return S3Models(f"{address.rstrip('/')}{below}", folder, environment)
