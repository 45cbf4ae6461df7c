"""The commands of rules: whether a book can be read, and what it would have done."""

from pathlib import Path

from sentinel.commands.progress import Stage
from sentinel.commands.registry_of_home import registry_of
from sentinel.commands.tables import tables_in
from sentinel.commands.thresholds import Period, costs_of, past_of
from sentinel.config import Settings
from sentinel.errors import InvalidDefinition
from sentinel.events.reference_tables.versions import Tables
from sentinel.model.bundle import Manifest, read_manifest
from sentinel.policy.rules.book import Book, read_book
from sentinel.policy.rules.hits import BookHits
from sentinel.record.applied import HomeDeployment
from sentinel.review.backtest import Backtest, PastHits, Several, Tried, backtest


def check_rules(settings: Settings, path: Path, version: str | None) -> tuple[Book, str]:
    """The book of a file, and the version whose fields and features it fits, the champion unless one is named.

    Raises InvalidDefinition for what cannot be read, with the place.
    """
    book, manifest = _book(path), _manifest(settings, version)
    _hits(book, manifest)
    return book, manifest.version


def backtest_rules(
    settings: Settings, path: Path, version: str | None, costs: str | None, period: Period, stage: Stage | None = None
) -> Backtest:
    """What the rules of a file would have done with what a version scored in a period; of the champion, without one.

    Beside it stands what the book in force would have done, where it can be read for that version. `stage` is told how
    far it is; a terminal without one. Raises InvalidDefinition for rules that cannot be read, InvalidInput for a period
    without decisions.
    """
    book, manifest = _book(path), _manifest(settings, version)
    tables, schema = tables_in(settings), manifest.plan.schema
    tried, in_force = (
        Tried(book, PastHits(_hits(book, manifest), schema, tables)),
        _in_force(settings, manifest, tables),
    )
    asked = [one.hits for one in (tried, in_force) if one is not None]
    past, said = past_of(settings, manifest, period, Several(*asked), stage)
    return backtest(past, tried, manifest.version, said, costs_of(manifest, costs), in_force)


def _in_force(settings: Settings, manifest: Manifest, tables: Tables) -> Tried | None:
    rules = HomeDeployment(settings.home).read().rules
    if rules is None or not rules.acting.all_rules:
        return None
    try:
        hits = _hits(rules.acting, manifest)
    except InvalidDefinition:  # it is of another version than the champion's
        return None
    return Tried(rules.acting, PastHits(hits, manifest.plan.schema, tables))


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
