"""`python -m sentinel.commands.retraining`: what a server has retrain it, as a process of the lowest priority."""

import argparse
import logging
import sys
from pathlib import Path

from sentinel.child_process import die_with_parent, yield_to_decisions
from sentinel.commands.progress import stages
from sentinel.commands.retraining.retrain import retrain
from sentinel.config import read_settings
from sentinel.errors import SentinelError
from sentinel.events.reading import Reading
from sentinel.policy.retraining import Ended
from sentinel.record.private import keep_private


def main() -> int:
    """Retrain once; the exit code, with the reason on standard error."""
    parser = argparse.ArgumentParser(prog="python -m sentinel.commands.retraining", description=__doc__)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--detector", required=True)
    parser.add_argument("--data")
    parser.add_argument("--warm-start", action="store_true")
    parser.add_argument("--parent", type=int, help="end when this process does")
    given = parser.parse_args()
    keep_private()
    logging.basicConfig(level="WARNING", format="%(levelname)s %(message)s")
    die_with_parent(given.parent)
    yield_to_decisions()
    try:
        with stages() as stage:
            settings = read_settings({"home": given.home})
            run = retrain(settings, given.detector, given.data, Reading(), stage, warm_start=given.warm_start)
    except (SentinelError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return Ended.FAILED
    return Ended.REFUSED if run.ended == "refused" else Ended.DONE


if __name__ == "__main__":
    sys.exit(main())
