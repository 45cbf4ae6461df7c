"""What is committed together: records, and how far the inputs were read with them."""

from sentinel.record.kafka.committer import Waiting
from sentinel.record.log import Taken


class Unit:
    """Records that are committed in one transaction, and what is to be committed with them."""

    def __init__(self) -> None:
        self.waiting: list[Waiting] = []
        self.taken: Taken | None = None

    def take(self, taken: Taken) -> None:
        """Say what was read of the inputs by now."""
        before = self.taken or Taken({})
        self.taken = Taken(taken.inputs, (*before.enclosed, *taken.enclosed), (*before.traces, *taken.traces))
