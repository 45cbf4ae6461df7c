"""`sentinel models card`: the model card of a version."""

from pathlib import Path

from sentinel.commands.registry_of_home import registry_of
from sentinel.config import Settings
from sentinel.durable import write_durably
from sentinel.errors import DataProblem
from sentinel.model.bundle import look_up_manifest
from sentinel.model.card_pages import card_html, card_markdown


def write_card(settings: Settings, version: str, html: Path | None) -> str:
    """The card as Markdown, and as a page in the file `html` if that is given. Raises BundleProblem, DataProblem."""
    manifest = look_up_manifest(registry_of(settings), version)
    if html is not None:
        try:
            write_durably(html, card_html(manifest).encode())
        except OSError as error:
            raise DataProblem(f"{html} cannot be written: {error.strerror}") from error
    return card_markdown(manifest)
