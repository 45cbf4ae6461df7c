"""`python -m sentinel.transport.flink`: run the job that standard input describes, in an environment with PyFlink."""

import os
import sys
import sysconfig

# The interpreter that Flink embeds does not know the environment that we run in.
os.environ["PYTHONPATH"] = os.pathsep.join(
    [*filter(None, [os.environ.get("PYTHONPATH")]), sysconfig.get_paths()["purelib"]]
)

from sentinel.transport.flink.job import run
from sentinel.transport.flink.job_spec import decode_spec

if __name__ == "__main__":
    try:
        run(decode_spec(sys.stdin.buffer.read()))
    except KeyboardInterrupt:
        sys.exit(130)
