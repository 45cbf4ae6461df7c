"""Coverage: whether what features look back on was seen, first by the model's training history and then by the log."""

from itertools import islice

from sentinel.events.times import SECOND_US, iso
from sentinel.features.plan import FeaturePlan
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
        self._searches: dict[str, _Search] = {}  # by state, as the windows
        self._window: dict[str, int] = {}

    def gap(self, manifest: Manifest, now_us: int) -> str | None:
        """What is missing of the time that a model's features look back on, and what to do; None where little is.

        Of a long log some pages are read at each call; until that is done, it is not known. A model whose history ended
        within the last day is never told so: training takes its time.
        """
        last_us = manifest.history.last_us
        if now_us - last_us <= _DAY_US or self._log.pruned_us > last_us:
            return None
        name = manifest.state_id
        window_us = self._window.setdefault(name, _window_us(manifest.plan))
        search = self._searches.setdefault(name, _Search(self._log, last_us))
        search.go_on()
        until_us, of_what = now_us, "now, as nothing was decided here since"
        if search.found_us is not None:
            until_us, of_what = search.found_us, "the first decision here"
        elif not search.is_over:
            return (
                f"it is unknown yet what the features of {manifest.version} lack: its history ends at {iso(last_us)}, "
                "and the log after that is being read, a part whenever this is asked"
            )
        missing_us = until_us - max(last_us, now_us - window_us)
        if missing_us <= _NOTEWORTHY * window_us:
            return None
        return (
            f"the features of {manifest.version} look back {_said(window_us)} and know nothing from {iso(last_us)}, "
            f"where its history ends, to {iso(until_us)[:19]}Z ({of_what}): train on a history that reaches "
            "up to now, or wait until the log reaches back as far"
        )


class _Search:
    """Looks for the first decision after the end of a history: `found_us` is when it was received."""

    def __init__(self, log: LogReader, last_us: int) -> None:
        self._follower = Follower(log, log.first_after(last_us))
        self.found_us: int | None = None

    @property
    def is_over(self) -> bool:
        """Whether it was found, or there is none by now."""
        return self.found_us is not None or self._follower.lag == 0

    def go_on(self) -> None:
        """Read on from where it was, so many pages at most."""
        if self.found_us is None:
            records = (record for page in islice(self._follower.rest(), _MOST_PAGES) for record in page)
            self.found_us = next((record.received_us for record in records if record.kind == Kind.DECIDED), None)


def _window_us(plan: FeaturePlan) -> int:
    """How far the features look back: the longest window, or how long a key is remembered where there is none."""
    compiled = plan.compiled
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
