"""Coverage: whether what features look back on was seen, first by the model's training history and then by the log."""

from itertools import islice

from sentinel.events.times import SECOND_US, iso
from sentinel.features.plan import FeaturePlan, compile_plan
from sentinel.model.bundle import Manifest
from sentinel.record.log import Follower, Kind, LogReader

_DAY_US = 86_400 * SECOND_US
_NOTEWORTHY = 0.1
"""Of the longest window: less than this may be missing without a word."""

_MOST_PAGES = 100


class Coverage:
    """Looks at a log for the champion's sake; what it has found it remembers."""

    def __init__(self, log: LogReader) -> None:
        self._log = log
        self._first: dict[str, int] = {}  # by state: when the first decision after its history was received
        self._window: dict[str, int] = {}

    def gap(self, manifest: Manifest, now_us: int) -> str | None:
        """What is missing of the time that a model's features look back on, and what to do; None where little is.

        A model whose history ended within the last day is never told so: training takes its time.
        """
        last_us = manifest.history.last_us
        if now_us - last_us <= _DAY_US or self._log.pruned_us > last_us:
            return None
        name = manifest.state_id
        window_us = self._window.setdefault(name, _window_us(manifest.plan))
        until_us, of_what = now_us, "now, as nothing was decided here since"
        first_us = self._first_decided(name, last_us)
        if first_us is not None:
            until_us, of_what = first_us, "the first decision here"
        missing_us = until_us - max(last_us, now_us - window_us)
        if missing_us <= _NOTEWORTHY * window_us:
            return None
        return (
            f"the features of {manifest.version} look back {_said(window_us)} and know nothing from {iso(last_us)}, "
            f"where its history ends, to {iso(until_us)[:19]}Z ({of_what}): train on a history that reaches "
            "up to now, or wait until the log reaches back as far"
        )

    def _first_decided(self, name: str, last_us: int) -> int | None:
        if name not in self._first:
            follower = Follower(self._log, self._log.first_after(last_us))
            records = (record for page in islice(follower.rest(), _MOST_PAGES) for record in page)
            found = next((record.received_us for record in records if record.kind == Kind.DECIDED), None)
            if found is None:
                return None
            self._first[name] = found
        return self._first[name]


def _window_us(plan: FeaturePlan) -> int:
    """How far the features look back: the longest window, or how long a key is remembered where there is none."""
    compiled = compile_plan(plan)
    return max((group.reach for group in compiled.groups), default=0) or compiled.horizon_us


def _said(duration_us: int) -> str:
    """A duration in the largest unit of which it is two or more.

    >>> _said(7 * 86_400_000_000), _said(3_600_000_000)
    ('7 days', '60 minutes')
    """
    for unit, size_us in (("days", _DAY_US), ("hours", 3_600 * SECOND_US), ("minutes", 60 * SECOND_US)):
        if duration_us >= 2 * size_us:
            return f"{duration_us / size_us:.3g} {unit}"
    return f"{duration_us / SECOND_US:g} seconds"
