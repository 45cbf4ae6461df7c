"""When to retrain: at the times of a cron expression, after drift, or once there are so many new labels."""

from collections.abc import Sequence
from datetime import UTC, datetime
from enum import IntEnum

import msgspec
from cronsim import CronSim, CronSimError

from sentinel.errors import InvalidDefinition

PAUSE_S = 3_600.0
"""Drift lasts, and labels go on coming: after a retraining that they caused, so long passes before the next one."""


class Ended(IntEnum):
    """How a process that retrains ends: with a challenger in the shadow or nothing to do, an error, or a refusal."""

    DONE = 0
    FAILED = 1
    REFUSED = 10


class Triggers(msgspec.Struct, frozen=True):
    """What has a server retrain. Times of `cron` are UTC."""

    cron: str | None = None
    on_drift: bool = False
    labels: int | None = None

    @classmethod
    def of(cls, cron: str | None, reasons: Sequence[str]) -> "Triggers":
        """From what is written: `0 3 * * *`, and `drift` and `labels:500`. Raises InvalidDefinition.

        >>> Triggers.of("0 3 * * *", ["drift", "labels:500"])
        Triggers(cron='0 3 * * *', on_drift=True, labels=500)
        """
        on_drift, labels = False, None
        for reason in reasons:
            name, _, number = reason.partition(":")
            if reason == "drift":
                on_drift = True
            elif name == "labels" and number.isdecimal() and int(number) > 0:
                labels = int(number)
            else:
                raise InvalidDefinition(f"retrain_on has {reason!r}; write drift, or labels:500 for so many new labels")
        found = cls(cron, on_drift, labels)
        if cron is not None:
            found.next_time(datetime(2026, 1, 1, tzinfo=UTC))
        return found

    @property
    def wanted(self) -> bool:
        """Whether anything has it retrain."""
        return self.cron is not None or self.on_drift or self.labels is not None

    def next_time(self, after: datetime) -> datetime | None:
        """The next time of the cron expression after a moment of UTC; None without one. Raises InvalidDefinition.

        >>> Triggers("0 3 * * *").next_time(datetime(2026, 11, 30, 3, 0, 0)).isoformat()
        '2026-12-01T03:00:00'
        """
        if self.cron is None:
            return None
        try:
            return next(CronSim(self.cron, after))
        except (CronSimError, StopIteration) as error:
            raise InvalidDefinition(
                f"retrain is {self.cron!r}, which no moment fits ({error}); write minute, hour, day, month and "
                "weekday, as 0 3 * * *"
            ) from None

    def reason(self, due: datetime | None, now: datetime, paused: bool, drifted: bool, new_labels: int) -> str | None:
        """Why to retrain now, in words; None while there is no reason. `due` is the next time of the expression."""
        if due is not None and now >= due:
            return "schedule"
        if paused:
            return None
        if self.on_drift and drifted:
            return "drift"
        return "labels" if self.labels is not None and new_labels >= self.labels else None
