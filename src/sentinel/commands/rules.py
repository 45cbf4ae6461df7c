"""The commands of rules: whether a book can be read, and what it would have done."""

from pathlib import Path

from sentinel.commands.registry_of_home import registry_of
from sentinel.commands.tables import tables_in
from sentinel.commands.thresholds import Period, costs_of, past_of
from sentinel.config import Settings
from sentinel.errors import InvalidDefinition
from sentinel.model.bundle import Manifest, read_manifest
from sentinel.policy.rules.book import Book, read_book
from sentinel.policy.rules.hits import BookHits
from sentinel.record.applied import HomeDeployment
from sentinel.review.backtest import Backtest, PastHits, backtest


def check_rules(settings: Settings, path: Path, version: str | None) -> tuple[Book, str]:
    """The book of a file, and the version whose fields and features it fits, the champion unless one is named.

    Raises InvalidDefinition for what cannot be read, with the place.
    """
    book, manifest = _book(path), _manifest(settings, version)
    _hits(book, manifest)
    return book, manifest.version


def backtest_rules(settings: Settings, path: Path, version: str | None, costs: str | None, period: Period) -> Backtest:
    """What the rules of a file would have done with what a version scored in a period; of the champion, without one.

    Raises InvalidDefinition for rules that cannot be read, InvalidInput for a period without decisions.
    """
    book, manifest = _book(path), _manifest(settings, version)
    hits = PastHits(_hits(book, manifest), manifest.plan.schema, tables_in(settings))
    past, said = past_of(settings, manifest, period, hits)
    return backtest(past, hits, book, manifest.version, said, costs_of(manifest, costs))


def _book(path: Path) -> Book:
    try:
        book = read_book(path)
    except FileNotFoundError:
        raise InvalidDefinition(f"there is no file {path}; docs/rules.md shows what is in one") from None
    if not book.all_rules:
        raise InvalidDefinition(f"{path} has no rule")
    return book


def _hits(book: Book, manifest: Manifest) -> BookHits:
    return BookHits(book, manifest.plan.schema, manifest.plan.names)


def _manifest(settings: Settings, version: str | None) -> Manifest:
    chosen = HomeDeployment(settings.home).champion() if version is None else version
    return read_manifest(registry_of(settings).path(chosen))
