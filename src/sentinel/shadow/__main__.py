"""`python -m sentinel.shadow --home H --version V`: one shadow as a process, until it is killed."""

import argparse
import logging
import sys
import time
from pathlib import Path

import msgspec

from sentinel.child_process import REFUSED, die_with_parent, yield_to_decisions
from sentinel.errors import BundleProblem, SentinelError
from sentinel.record.private import keep_private
from sentinel.shadow.scoring import Shadow
from sentinel.shadow.settings import ShadowSettings


def main() -> int:
    """Run until killed, or until the parent process is gone; the exit code, with the reason on standard error."""
    parser = argparse.ArgumentParser(prog="python -m sentinel.shadow", description=__doc__)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--version", required=True)
    parser.add_argument("--settings", default="{}", help="JSON with fields of ShadowSettings")
    parser.add_argument("--parent", type=int, help="end when this process does")
    given = parser.parse_args()
    keep_private()
    logging.basicConfig(level="WARNING", format="%(levelname)s %(message)s")
    try:
        settings = msgspec.json.decode(given.settings, type=ShadowSettings)
        yield_to_decisions()
        goes_on = die_with_parent(given.parent)
        shadow = Shadow(given.home, given.version, settings)
        while goes_on():
            if not shadow.step():
                time.sleep(settings.poll_s)
    except (BundleProblem, msgspec.MsgspecError) as error:
        return _reported(error, REFUSED)
    except SentinelError as error:
        return _reported(error, 1)
    return 0


def _reported(error: Exception, code: int) -> int:
    print(" ".join(str(error).split()), file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
