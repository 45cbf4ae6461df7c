"""The registry of the settings, with the keys that they trust."""

from sentinel.config import Settings
from sentinel.model.open_registry import open_registry
from sentinel.model.registry import Registry
from sentinel.model.signing import read_trusted_keys


def registry_of(settings: Settings) -> Registry:
    """The registry of the home, in its folder or in S3. Raises InvalidDefinition."""
    return open_registry(settings.models_folder, settings.models, read_trusted_keys(settings.trusted_keys_file))
