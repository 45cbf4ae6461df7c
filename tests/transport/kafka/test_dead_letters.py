"""Dead letters: where they may be sent again."""

import pytest

from sentinel.errors import StorageProblem
from sentinel.transport.kafka.connection import Connection
from sentinel.transport.kafka.dead_letters import DeadLetter, sent_again


@pytest.mark.parametrize("topic", ["bank.log", "log", "transactions", "bank.decisions", "bank.dead-letters", ""])
def test_a_letter_that_says_it_came_from_elsewhere_is_not_sent_there(topic):
    """Nothing listens at this address: what would be sent fails otherwise."""
    letters = [DeadLetter("0-1", name, "0-0", "no JSON", 1, b"k", b"v") for name in ("bank.transactions", topic)]
    with pytest.raises(StorageProblem, match=r"the dead letter 0-1 says that it came from .*; nothing was sent again"):
        sent_again(Connection("127.0.0.1:9", "bank."), letters)
