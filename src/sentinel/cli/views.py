"""`sentinel views`: what is derived from the log."""

from typing import Annotated

import typer

from sentinel.cli.options import Home, Json, settings_of
from sentinel.cli.terminal import tell

views = typer.Typer(help="Look after the views, which are derived from the log.", no_args_is_help=True)


@views.command("rebuild")
def views_rebuild(
    home: Home = None,
    online: Annotated[bool, typer.Option("--online", help="The one in Redis (SENTINEL_REDIS_URL).")] = False,
    as_json: Json = False,
) -> None:
    """Delete the view and derive it anew from the log. Decisions go on meanwhile."""
    from sentinel.commands.progress import stages
    from sentinel.commands.storage import rebuild_online, rebuild_views

    if online:
        with stages() as stage:
            end = rebuild_online(settings_of(home), stage)
        tell({"position": end}, [f"the online view has all before position {end:,} of the log"], as_json=as_json)
        return
    with stages() as stage:
        counts = rebuild_views(settings_of(home), stage)
    said = f"the view holds {counts.decisions:,} decisions and {counts.outcomes:,} outcomes now"
    tell(counts, [said], as_json=as_json)


@views.command("status")
def views_status(home: Home = None, as_json: Json = False) -> None:
    """Say where the view is, how far behind the log, and which ids it has more than once."""
    from sentinel.commands.storage import view_status

    one = view_status(settings_of(home))
    counts = f"{one.counts.decisions:,} decisions, {one.counts.outcomes:,} outcomes"
    lines = [
        f"{one.name}, schema {one.schema_version}: {counts}",
        f"{one.lag:,} entries behind the log" if one.lag else "it has all that the log has",
        *(f"{name} is there {times} times: it was decided more than once" for name, times in one.repeated.items()),
    ]
    tell(one, lines + ([one.problem] if one.problem else []), as_json=as_json)


@views.command("upgrade")
def views_upgrade(home: Home = None, as_json: Json = False) -> None:
    """Bring the tables of a view in PostgreSQL to the newest version of their schema, as a server does at its start."""
    from sentinel.commands.storage import upgrade_views

    done = upgrade_views(settings_of(home))
    said = f"brought to {done[-1]} by way of {', '.join(done)}" if done else "nothing to do"
    tell({"versions": done}, [said], as_json=as_json)
