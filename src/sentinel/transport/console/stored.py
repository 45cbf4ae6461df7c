"""What is stored, as the console reads it without asking the server: the view of decisions, models, the schema."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Any

import msgspec

from sentinel.config import Settings
from sentinel.errors import SentinelError
from sentinel.events.reader import TransactionReader
from sentinel.events.schema import Schema
from sentinel.model.bundle import Manifest, read_manifest
from sentinel.model.open_registry import open_registry
from sentinel.model.registry import Registry
from sentinel.model.signing import read_trusted_keys
from sentinel.record.applied import HomeDeployment
from sentinel.record.views import View
from sentinel.record.views.counted import CURRENCY
from sentinel.record.views.place import ViewPlace


class Stored:
    """Reads a home; from any thread. Raises StorageProblem, and BundleProblem where there is no model yet."""

    def __init__(self, settings: Settings) -> None:
        self._deployment = HomeDeployment(settings.home)
        self._looking = threading.Lock()
        self._secrets = settings.secrets()
        self._place = ViewPlace(settings.home, settings.database_url)
        self._manifests: dict[str, Manifest] = {}
        self.registry: Registry = open_registry(
            settings.models_folder, settings.models, read_trusted_keys(settings.trusted_keys_file)
        )

    @contextmanager
    def view(self) -> Iterator[View]:
        """The view of decisions and outcomes."""
        with closing(self._place.open()) as view:
            yield view

    def champion(self) -> Manifest:
        """The manifest of the model that decides."""
        with self._looking:
            version = self._deployment.champion()
        return self.manifest(version)

    def manifest(self, version: str) -> Manifest:
        """Of a version. Raises BundleProblem."""
        if version not in self._manifests:
            self._manifests[version] = read_manifest(self.registry.path(version))
        return self._manifests[version]

    def reader(self, schema: Schema) -> TransactionReader:
        """What reads texts as transactions of this schema are read: secrets become hashes."""
        return TransactionReader(schema, self._secrets)

    def amount_digits(self, schema: Schema) -> int:
        """Decimals of the amount."""
        return schema.decimals.get(schema.amount, 2) if schema.amount else 2

    def currency(self) -> str | None:
        """That of amounts of which no field says it; None where the detector declares none, or there is no model."""
        try:
            champion = self.champion()
        except SentinelError:
            return None
        return None if CURRENCY in champion.plan.schema.categories else champion.currency

    def close(self) -> None:
        """Release what is open."""
        self._place.close()


def reasons_in(raw: str | None) -> Mapping[str, Any] | None:
    """The reasons that a view has of a decision."""
    return None if raw is None else msgspec.json.decode(raw)
