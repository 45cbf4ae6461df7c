"""Commands that correct what the log says: outcomes are taken back, and what is personal is erased."""

from typing import Annotated

import typer

from sentinel.cli.options import Home, Json, settings_of
from sentinel.cli.terminal import tell
from sentinel.commands.terminal import shown
from sentinel.errors import InvalidDefinition

outcomes = typer.Typer(help="Take back outcomes that should not have been told.", no_args_is_help=True)


@outcomes.command("revoke")
def outcomes_revoke(
    key: Annotated[str, typer.Option("--key", help="API key that told them; `operator` for those told without one.")],
    reason: Annotated[str, typer.Option("--reason", help="Why: it stays with each of them.")],
    home: Home = None,
    since: Annotated[str | None, typer.Option("--from", help="Received from then on: ISO 8601 or Unix.")] = None,
    until: Annotated[str | None, typer.Option("--to", help="Received before then.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Tell what it would change, and change nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Take back the outcomes that an API key has told: features and figures are as if corrected from now on.

    What was decided before stays as it is. Revoke the key first, or it tells more. A server that runs is asked.
    """
    from sentinel.commands.revoke import revoke_outcomes

    done = revoke_outcomes(settings_of(home), key=key, reason=reason, since=since, until=until, dry_run=dry_run)
    verb = "would be taken back" if dry_run else "taken back"
    said = (
        f"{done.outcomes:,} outcomes of {done.transactions:,} transactions {verb}; {done.changed:,} of these "
        f"transactions {'would be' if dry_run else 'are'} judged otherwise without them"
    )
    tell(done, [said], as_json=as_json)


def erase(
    subject: Annotated[str, typer.Argument(help="Whose personal data: KEY=VALUE, such as card_id=c-17.")],
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Erase what is personal of a subject for good: the key that it is encrypted with is destroyed.

    Its transactions, amounts, times, hashes and features stay, so the features' state keeps its bits.
    """
    from sentinel.commands.erase import erase_subject

    key, separator, value = subject.partition("=")
    if not (key and separator and value):
        raise InvalidDefinition(f"{subject!r} names no subject; write KEY=VALUE, such as card_id=c-17")
    done = erase_subject(settings_of(home), key, value)
    said = "what was personal is erased" if done.found else "nothing personal was kept"
    tell(done, [f"{shown(f'{done.key}={done.value}')}: {said} (position {done.position} of the log)"], as_json=as_json)
