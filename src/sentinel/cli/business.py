"""`sentinel business`: what fraud costs, and what is saved."""

from typing import Annotated

import typer

from sentinel.cli.options import Home, Json, settings_of
from sentinel.cli.terminal import tell


def business(
    since: Annotated[str | None, typer.Option("--from", help="The first day, UTC [30 days before --to].")] = None,
    until: Annotated[str | None, typer.Option("--to", help="The day after the last one [tomorrow].")] = None,
    each: Annotated[str, typer.Option("--each", help="day, week or month.")] = "day",
    by: Annotated[str | None, typer.Option("--by", help="model, variant, or a field, as field:country.")] = None,
    value: Annotated[str | None, typer.Option("--value", help="Of one value of that alone.")] = None,
    source: Annotated[
        str | None, typer.Option("--source", help="Who tells of chargebacks, as outcomes say it [chargebacks].")
    ] = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Say how much fraud there was in basis points, what it cost, what was saved, and who was disturbed for nothing.

    From the sums of days that the view keeps; `GET /v1/business` says the same.
    """
    from sentinel.commands.business import business_of, lines_of

    given = {"from": since, "to": until, "each": each, "by": by, "value": value, "source": source}
    found = business_of(settings_of(home), given)
    tell(found, lines_of(found), as_json=as_json)
