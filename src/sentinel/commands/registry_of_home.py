"""The registry of the settings, with the keys that they trust, and what it has of the champion."""

from sentinel.config import Settings
from sentinel.model.bundle import Manifest, read_manifest
from sentinel.model.open_registry import open_registry
from sentinel.model.registry import Registry
from sentinel.model.signing import read_trusted_keys
from sentinel.record.applied import HomeDeployment


def registry_of(settings: Settings) -> Registry:
    """The registry of the home, in its folder or in S3. Raises InvalidDefinition."""
    return open_registry(settings.models_folder, settings.models, read_trusted_keys(settings.trusted_keys_file))


def champion_manifest(settings: Settings) -> Manifest:
    """The manifest of the champion. Raises BundleProblem when there is none, or it cannot be read."""
    return read_manifest(registry_of(settings).path(HomeDeployment(settings.home).champion()))
