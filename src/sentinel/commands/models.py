"""The commands that look after the registry: which models there are, which are broken, whom to trust."""

import msgspec

from sentinel.commands.audited import note
from sentinel.commands.registry_of_home import registry_of
from sentinel.commands.tracking import copy_aliases, holders_of, tracking_of
from sentinel.config import Settings
from sentinel.errors import BundleProblem, InvalidDefinition
from sentinel.model.bundle import accept_bundle, load_bundle, look_up_manifest, read_manifest, sign_bundle
from sentinel.model.registry import Registry
from sentinel.model.signing import SIGNATURE_FILE, signer
from sentinel.record.applied import HomeDeployment


class ModelRow(msgspec.Struct, frozen=True, kw_only=True):
    """A version of the registry; `problem` says why it could not be loaded, and then the rest is not known.

    One that is not `here`, on this machine, was not loaded, and whether it is signed is null.
    """

    version: str
    champion: bool
    aliases: tuple[str, ...] = ()
    detector: str | None = None
    created_at: str | None = None
    average_precision: float | None = None
    here: bool = True
    signed: bool | None = False
    problem: str | None = None


def list_models(settings: Settings) -> list[ModelRow]:
    """Every version, oldest first; those that are on this machine are loaded as a server would load them."""
    registry = registry_of(settings)
    aliases = holders_of(HomeDeployment(settings.home).read())
    return [
        _row(registry, version, tuple(alias for alias, holder in aliases.items() if holder == version))
        for version in registry.versions()
    ]


def _row(registry: Registry, version: str, aliases: tuple[str, ...]) -> ModelRow:
    is_champion = "champion" in aliases
    try:
        here = registry.is_here(version)
        if here:
            manifest = load_bundle(registry.path(version), registry.trusted).manifest
        else:
            manifest = look_up_manifest(registry, version)
        precision = float(manifest.metrics["average_precision"]["value"])
    except (KeyError, TypeError, ValueError):
        return ModelRow(
            version=version, champion=is_champion, aliases=aliases, problem="its manifest has no average precision"
        )
    except BundleProblem as problem:
        return ModelRow(version=version, champion=is_champion, aliases=aliases, problem=str(problem))
    return ModelRow(
        version=version,
        champion=is_champion,
        aliases=aliases,
        detector=manifest.detector,
        created_at=manifest.created_at,
        average_precision=precision,
        here=here,
        signed=(registry.path(version) / SIGNATURE_FILE).exists() if here else None,
    )


def accept_model(settings: Settings, version: str) -> str:
    """Take a bundle from elsewhere into the registry's record; the SHA-256 of its manifest. Raises BundleProblem."""
    digest = accept_bundle(registry_of(settings), version)
    note(settings, "models accept", version, {}, {"manifest_sha256": digest})
    return digest


def sign_model(settings: Settings, version: str) -> None:
    """Sign a version. Raises InvalidDefinition without a key, BundleProblem for what is not as it was recorded."""
    sign = signer(settings.signing_key_file)
    if sign is None:
        raise InvalidDefinition("signing_key_file is not set; `sentinel models keygen` makes a key")
    sign_bundle(registry_of(settings), version, sign)
    note(settings, "models sign", version, {}, {"signed": True})


def show_aliases(settings: Settings, uri: str | None) -> dict[str, dict[str, str]]:
    """Which version has which alias by the log, and with an address of MLflow what has them there now.

    Raises StorageProblem where MLflow cannot be told.
    """
    deployment = HomeDeployment(settings.home).read()
    shown = {"aliases": holders_of(deployment)}
    tracking = tracking_of(None, uri, None)
    if tracking is not None and deployment.champion is not None:
        registry = registry_of(settings)
        detector = read_manifest(registry.path(deployment.champion)).detector
        shown["mlflow"] = copy_aliases(tracking.uri, detector, deployment, registry)
    return shown
