"""Whether a challenger may take its place beside the champion, where a home folder has no promotion policy."""

from collections.abc import Sequence

from sentinel.train.figures.compare import Comparison

LEAST_FRAUDS = 20


def failures(compared: Comparison, doubts: Sequence[str]) -> list[str]:
    """Why the second model of a comparison may not stand beside the first, the champion; empty where it may.

    It may not be worse beyond doubt, and what speaks against it by itself counts.
    """
    found, precision = list(doubts), compared.average_precision
    if compared.frauds < LEAST_FRAUDS:
        found.append(f"only {compared.frauds} frauds to compare on; {LEAST_FRAUDS} are needed")
    difference = precision.difference
    if difference.high < 0:
        found.append(
            f"worse than the champion on the same {compared.transactions:,} rows: average precision "
            f"{precision.second:.4f} against {precision.first:.4f}, difference {difference.value:.4f} "
            f"(95 %: {difference.low:.4f} to {difference.high:.4f})"
        )
    return found
