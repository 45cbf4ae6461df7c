"""`sentinel views`: what is derived from the log."""

import typer

from sentinel.cli.options import Home, Json, settings_of
from sentinel.cli.terminal import tell

views = typer.Typer(help="Look after the views, which are derived from the log.", no_args_is_help=True)


@views.command("rebuild")
def views_rebuild(home: Home = None, as_json: Json = False) -> None:
    """Delete the view and derive it anew from the log. Decisions go on meanwhile."""
    from sentinel.commands.progress import stages
    from sentinel.commands.storage import rebuild_views

    with stages() as stage:
        counts = rebuild_views(settings_of(home), stage)
    said = f"the view holds {counts.decisions:,} decisions and {counts.outcomes:,} outcomes now"
    tell(counts, [said], as_json=as_json)
