"""`sentinel cases`: what waits for a person."""

from typing import Annotated, Any

import typer

from sentinel.cli.options import Home, Json, settings_of
from sentinel.cli.terminal import tell
from sentinel.commands.terminal import shown
from sentinel.events.card_numbers import replace_card_numbers

cases = typer.Typer(help="See what waits for a person, and what was done with it.", no_args_is_help=True)


@cases.command("list")
def cases_list(
    state: Annotated[str, typer.Option("--state", help="work, waiting, done, or one state.")] = "work",
    holder: Annotated[str | None, typer.Option("--holder", help="Who has them.")] = None,
    limit: Annotated[int, typer.Option("--limit", help="How many at most, up to 500.")] = 50,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """List cases, the most urgent first; what is done by when."""
    from sentinel.commands.cases import list_cases

    found = list_cases(settings_of(home), state, holder, limit)
    lines = [_line(one) for one in found["cases"]]
    more = [f"{found['total'] - len(lines):,} more"] if found["next"] is not None else []
    tell(found, [*lines, *more] or ["no case is there"], as_json=as_json)


@cases.command("show")
def cases_show(
    number: Annotated[int, typer.Argument(help="The number of a case.")], home: Home = None, as_json: Json = False
) -> None:
    """Show a case with its payments and its history."""
    from sentinel.commands.cases import show_case

    found = show_case(settings_of(home), number)
    lines = [_line(found)]
    lines += [
        f"  {one['decided_at']} {shown(one['transaction_id'])}: {one['amount']}, {one['decision']}, "
        f"score {one['fraud_probability']:.3f}, {_said(one['is_fraud'])}"
        for one in found["transactions"]
    ]
    lines += [f"  {one['at']} {one['what']} by {shown(one['who'])}" for one in found["history"]]
    lines += [f"  like case {one['case']} ({one['likeness']:.0%}): {one['outcome']}" for one in found["similar"]]
    tell(found, lines, as_json=as_json)


def _line(case: dict[str, Any]) -> str:
    whose = case["holder"] or case["escalated_to"] or case["decided_by"]
    late = ", overdue" if case["overdue"] else ""
    stands = case["outcome"] or case["state"]
    return (
        f"case {case['case']}: {case['key']['field']} {_key(case)}, {case['payments']} payments, "
        f"{case['expected_loss']} of {case['amount']} at stake, {case['priority']}, due {case['due_at']}{late}, "
        + (f"{stands} ({shown(whose)})" if whose else stands)
    )


def _key(case: dict[str, Any]) -> str:
    """The value of its key, of a card number the first six and the last four digits."""
    value: str = case["key"]["value"]
    return shown(replace_card_numbers(value, lambda digits: f"{digits[:6]}** **** {digits[-4:]}"))


def _said(is_fraud: bool | None) -> str:
    return "not known yet" if is_fraud is None else "fraud" if is_fraud else "legitimate"
