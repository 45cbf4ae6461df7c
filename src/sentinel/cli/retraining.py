"""`sentinel retrain`: a new model from new labels, beside the champion until somebody promotes it."""

from pathlib import Path
from typing import Annotated, Any

import typer

from sentinel.cli.options import DetectorName, Home, Json, reads_history, settings_of
from sentinel.cli.terminal import tell
from sentinel.events.reading import Reading


@reads_history
def retrain(
    data: Annotated[
        Path | None,
        typer.Option("--data", help="History with labels, instead of what the log has: a file, folder or pattern."),
    ] = None,
    earlier: Annotated[
        Path | None, typer.Option("--with", help="Without --data: a history of what came before the log.")
    ] = None,
    detector: DetectorName = "payments",
    home: Home = None,
    run: Annotated[str | None, typer.Option("--run", help="Name of the run, to go on with it [by the time].")] = None,
    until: Annotated[
        str, typer.Option("--until", help="The last step: collect, train, gate, register or shadow.")
    ] = "shadow",
    warm_start: Annotated[
        bool, typer.Option("--warm-start", help="Add trees to the champion, too, and take the better of the two.")
    ] = False,
    as_json: Json = False,
    *,
    reading: Reading,
) -> None:
    """Train on newer labels, compare with the champion, and have what is not worse score in the shadow.

    The exit code is 1 when the candidate is refused, or a step fails. Asked again, it goes on with that step.
    """
    from sentinel.commands.progress import stages
    from sentinel.commands.retraining.retrain import retrain as run_steps

    with stages() as stage:
        files = [None if one is None else str(one) for one in (data, earlier)]
        done = run_steps(
            settings_of(home), detector, files[0], reading, stage, earlier=files[1], warm_start=warm_start, name=run,
            until=until,
        )  # fmt: skip
    tell(done, _lines(done), as_json=as_json)
    if done.ended == "refused":
        raise typer.Exit(1)


def _lines(run: Any) -> list[str]:
    lines = [f"run {run.name}, begun {run.begun_at}"]
    lines += [f"  {one.name:<9} {one.at}  {one.seconds:8.1f} s" for one in run.steps]
    warm = (run.found("train") or {}).get("warm_start")
    if warm is not None:
        lines += _lines_of_warm(warm)
    judged = run.found("gate")
    if judged is not None:
        compared = judged["compared"]
        if compared is not None:
            lines.append(_said_of("", f"champion {judged['champion']}", compared))
        lines += [f"  refused: {one}" for one in judged["failures"]]
    watched = run.found("shadow")
    if watched is not None:
        lines.append(f"  {watched['shadow']} is the shadow; {_said_of_promoting(run, watched['shadow'])}")
    return lines


def _said_of_promoting(run: Any, version: str) -> str:
    """How it becomes the champion: where there is a policy, through the other gate first."""
    promote = f"`sentinel models promote {version}` makes it champion"
    if run.found("gate")["policy"] is None:
        return promote
    collected = run.found("collect")
    files = f"--data {collected['file']}"
    if collected.get("events") is not None:
        files += f" --events-file {collected['events']}"
    return f"{promote} once it has passed `sentinel models gate {version} {files}`"


def _lines_of_warm(warm: Any) -> list[str]:
    lines = [f"  {warm['trees_added']:,} trees added to the {warm['trees_before']:,} of {warm['parent']}"]
    if warm["compared"] is not None:
        lines.append(_said_of(" with them", "full fit", warm["compared"]))
    return [*lines, f"  the {warm['taken']} fit is the candidate: {warm['why']}"]


def _said_of(second: str, first: str, compared: Any) -> str:
    precision = compared["average_precision"]
    difference = precision["difference"]
    return (
        f"  average precision{second} {precision['second']:.4f}, {first} {precision['first']:.4f}; difference "
        f"{difference['value']:.4f} (95 %: {difference['low']:.4f} to {difference['high']:.4f}) on "
        f"{compared['transactions']:,} transactions, {compared['frauds']:,} frauds"
    )
