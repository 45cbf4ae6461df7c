"""The commands that look after the registry: which models there are, which are broken, whom to trust."""

import msgspec

from sentinel.commands.audited import note
from sentinel.config import Settings
from sentinel.errors import BundleProblem, InvalidDefinition
from sentinel.model.bundle import accept_bundle, load_bundle, sign_bundle
from sentinel.model.registry import Registry
from sentinel.model.signing import SIGNATURE_FILE, read_trusted_keys, signer
from sentinel.record.applied import HomeDeployment


class ModelRow(msgspec.Struct, frozen=True, kw_only=True):
    """A version of the registry; `problem` says why it could not be loaded, and then the rest is not known."""

    version: str
    champion: bool
    detector: str | None = None
    created_at: str | None = None
    average_precision: float | None = None
    signed: bool = False
    problem: str | None = None


def list_models(settings: Settings) -> list[ModelRow]:
    """Every version, oldest first, loaded as a server would load it."""
    registry = _registry(settings)
    champion = HomeDeployment(settings.home).read().champion
    return [_row(registry, version, is_champion=version == champion) for version in registry.versions()]


def _row(registry: Registry, version: str, *, is_champion: bool) -> ModelRow:
    try:
        manifest = load_bundle(registry.path(version), registry.trusted).manifest
        precision = float(manifest.metrics["average_precision"]["value"])
    except (KeyError, TypeError, ValueError):
        return ModelRow(version=version, champion=is_champion, problem="its manifest has no average precision")
    except BundleProblem as problem:
        return ModelRow(version=version, champion=is_champion, problem=str(problem))
    return ModelRow(
        version=version,
        champion=is_champion,
        detector=manifest.detector,
        created_at=manifest.created_at,
        average_precision=precision,
        signed=(registry.path(version) / SIGNATURE_FILE).exists(),
    )


def accept_model(settings: Settings, version: str) -> str:
    """Take a bundle from elsewhere into the registry's record; the SHA-256 of its manifest. Raises BundleProblem."""
    digest = accept_bundle(_registry(settings), version)
    note(settings, "models accept", version, {}, {"manifest_sha256": digest})
    return digest


def sign_model(settings: Settings, version: str) -> None:
    """Sign a version. Raises InvalidDefinition without a key, BundleProblem for what is not as it was recorded."""
    sign = signer(settings.signing_key_file)
    if sign is None:
        raise InvalidDefinition("signing_key_file is not set; `sentinel models keygen` makes a key")
    sign_bundle(Registry(settings.models), version, sign)
    note(settings, "models sign", version, {}, {"signed": True})


def _registry(settings: Settings) -> Registry:
    return Registry(settings.models, read_trusted_keys(settings.trusted_keys_file))
