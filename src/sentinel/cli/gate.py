"""`sentinel models gate`, `compare` and `rollback`: whether a version may decide, and how to take that back."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from sentinel.cli.evaluation import LabelDelay
from sentinel.cli.options import DataFile, Home, Json, reads_history, settings_of
from sentinel.cli.terminal import tell, terminal
from sentinel.cli.verdict import verdict_lines
from sentinel.commands.terminal import shown
from sentinel.errors import BundleProblem, DataProblem, InvalidDefinition
from sentinel.events.reading import Reading

_WORDS = {
    "average_precision": "average precision",
    "auc_roc": "AUC ROC",
    "recall_at_fpr": "recall at FPR {fpr:g}",
}
_MARKS = {"passed": "ok", "failed": "failed", "missing": "missing"}


@reads_history
def models_gate(
    version: str,
    policy: Annotated[
        Path | None, typer.Option("--policy", help="The policy's file [promotion_policy.yaml of the home folder].")
    ] = None,
    data: Annotated[
        Path | None, typer.Option("--data", help="A history to measure on; without one the model's own figures count.")
    ] = None,
    for_: Annotated[
        str, typer.Option("--for", help="`promote`, or `register`, which does not ask what it did as a shadow.")
    ] = "promote",
    label_delay: LabelDelay = None,
    home: Home = None,
    as_json: Json = False,
    *,
    reading: Reading,
) -> None:
    """Hold a version against the promotion policy: exit 0 when it passes, 1 when it fails, 2 when something is missing.

    A pass is kept, and `sentinel models promote` looks for it.
    """
    from sentinel.commands.evaluation import Source
    from sentinel.commands.gate import MISSING, run_gate

    if for_ not in ("promote", "register"):
        raise InvalidDefinition(f"--for is {for_!r}; write promote or register")
    source = None if data is None else Source(data, reading, label_delay)
    settings = settings_of(home)
    try:
        result = run_gate(
            settings, version, policy_file=policy, source=source, gate="register" if for_ == "register" else "promote"
        )
    except FileNotFoundError as error:
        terminal.print(
            f"[red]missing:[/red] there is no {shown(str(error.filename))}; write one, or give --policy FILE"
        )
        raise typer.Exit(MISSING) from None
    except (BundleProblem, DataProblem, InvalidDefinition) as error:
        terminal.print("[red]missing:[/red]", shown(str(error)), soft_wrap=True)
        raise typer.Exit(MISSING) from None
    lines = [f"{version} and {result.policy}, to {for_}:"]
    if result.verdict.measured_on:
        lines.append(f"measured on {result.verdict.measured_on}")
    lines += [f"  {_MARKS[one.status]:<8}{one.said}" for one in result.checks]
    tell(result, [*lines, *verdict_lines(result.verdict)], as_json=as_json)
    raise typer.Exit(result.exit_code)


@reads_history
def models_report(
    version: str,
    data: DataFile,
    html: Annotated[Path, typer.Option("--html", help="File to write.")],
    label_delay: LabelDelay = None,
    home: Home = None,
    *,
    reading: Reading,
) -> None:
    """Write the report of a version on a file, as one page with plots."""
    from sentinel.commands.evaluation import Source
    from sentinel.commands.report import write_report

    write_report(settings_of(home), version, Source(data, reading, label_delay), html)
    terminal.print(f"the report of {version} is in {html}", soft_wrap=True)


def models_rollback(home: Home = None) -> None:
    """Make the champion before this one decide again; servers that run follow within a second."""
    from sentinel.commands.promote import roll_back

    terminal.print(f"{roll_back(settings_of(home))} is the champion again")


@reads_history
def models_compare(
    first: str,
    second: str,
    data: DataFile,
    fpr: Annotated[
        float, typer.Option("--fpr", min=0.0, max=1.0, help="Share of false alarms at which recall is compared.")
    ] = 0.01,
    label_delay: LabelDelay = None,
    home: Home = None,
    as_json: Json = False,
    *,
    reading: Reading,
) -> None:
    """Measure two versions on the same rows, which neither learned from, and say what is more than chance."""
    from sentinel.commands.evaluation import Source, compare_models

    found = compare_models(settings_of(home), (first, second), Source(data, reading, label_delay), fpr)
    tell(found, _comparison_lines(msgspec.to_builtins(found)), as_json=as_json)


def _comparison_lines(one: Mapping[str, Any]) -> Iterator[str]:
    first, second = one["first"], one["second"]
    yield f"measured on {one['measured_on']}"
    yield f"{one['frauds']:,} frauds among {one['transactions']:,} transactions of {one['cards']:,} cards"
    yield f"{'':<26}{first:>10}{second:>10}  difference"
    for name in ("average_precision", "auc_roc", "recall_at_fpr"):
        pair, by = one[name], one[name]["difference"]
        better = second if by["low"] > 0 else first if by["high"] < 0 else None
        said = f"{better} is better" if better else "no difference for certain"
        interval = f"{by['value']:+.4f} (95 %: {by['low']:+.4f} to {by['high']:+.4f}): {said}"
        yield f"  {_WORDS[name].format(fpr=one['fpr']):<24}{pair['first']:>10.4f}{pair['second']:>10.4f}  {interval}"
    yield f"  {'calibration error':<24}{one['calibration_error'][0]:>10.5f}{one['calibration_error'][1]:>10.5f}"
    for name in ("review", "block"):
        for version, at in zip((first, second), one[name], strict=True):
            if at is not None:
                yield (
                    f"  {version} {name} from {at['threshold']:.5f}: precision {at['precision']:.3f}, recall "
                    f"{at['recall']:.3f}, {at['false_alarms']:,} false alarms"
                )
