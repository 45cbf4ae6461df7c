"""The messenger's process: `python -m sentinel.transport.messages.follower --home H` announces, deals and sends."""

import argparse
import logging
import random
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from sentinel.child_process import REFUSED, die_with_parent
from sentinel.config import Settings, read_settings
from sentinel.errors import InvalidDefinition, StorageProblem
from sentinel.events.times import clock_us
from sentinel.record.home_reader import open_log
from sentinel.record.private import keep_private
from sentinel.record.problem import tell_problem
from sentinel.record.written.written_database import WrittenDatabase
from sentinel.transport.messages.announcing import Announcer
from sentinel.transport.messages.destinations import destinations_of
from sentinel.transport.messages.sending import Sender, keep_sending

PROGRAM = "messenger"
_PAUSE_S, _RETRY_S = 0.5, 5.0


def follow(settings: Settings, goes_on: Callable[[], bool]) -> None:
    """Send what there is to send, whatever happens to the log or the database. Raises InvalidDefinition."""
    destinations = destinations_of(settings)
    database = _opened(settings, goes_on)
    if database is None:
        return
    with closing(database):
        sender = Sender(database, destinations, random.Random())  # noqa: S311 - how long to wait is no secret
        threads = keep_sending(sender, destinations, goes_on, clock_us)
        while goes_on():
            with _telling(settings), closing(open_log(settings.home)) as log:
                announcer = Announcer(database, log)
                while goes_on():
                    more = announcer.step() or sender.deal(clock_us()) > 0
                    tell_problem(settings.home, PROGRAM, None)
                    time.sleep(0 if more else _PAUSE_S)
        for one in threads:
            one.join()


def _opened(settings: Settings, goes_on: Callable[[], bool]) -> WrittenDatabase | None:
    """The outbox, as soon as its database is there."""
    while goes_on():
        with _telling(settings):
            return WrittenDatabase(settings.home, settings.database_url)
    return None


@contextmanager
def _telling(settings: Settings) -> Iterator[None]:
    """Say what stands in the way, and wait for a while."""
    try:
        yield
    except StorageProblem as problem:
        tell_problem(settings.home, PROGRAM, str(problem))
        time.sleep(_RETRY_S)


def main() -> int:
    """Run until killed, or until the parent process is gone."""
    parser = argparse.ArgumentParser(prog="python -m sentinel.transport.messages.follower", description=__doc__)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--parent", type=int, help="end when this process does")
    given = parser.parse_args()
    keep_private()
    logging.basicConfig(level="WARNING", format="%(levelname)s %(message)s")
    try:
        follow(read_settings({"home": given.home}), die_with_parent(given.parent))
    except InvalidDefinition as error:
        logging.getLogger(__name__).warning("%s", error)
        return REFUSED
    return 0


if __name__ == "__main__":
    sys.exit(main())
