"""Whether something keeps the projector of this container from its work: exit code 0, or 1 with what that is."""

import os
import sys
from pathlib import Path

from sentinel.record.problem import problem_of

if __name__ == "__main__":
    sys.exit(problem_of(Path(os.environ["SENTINEL_HOME"]), "projector"))
