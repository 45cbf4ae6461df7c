"""A judge is warm before its first turn: what the kernel needs is compiled while it is loaded, not while callers wait."""

import os
import subprocess
import sys

JUDGE = """
import sys
import time
from pathlib import Path
import numpy as np
from sentinel.config import read_settings
from sentinel.features import kernel, profile
from sentinel.front_app import _loader
from sentinel.policy.model_call import Limits, ModelCaller
from sentinel.record.applied import HomeDeployment
from sentinel.transport.wide.judging import KnownLists

def compiled():
    return {
        f"{part.__name__}.{name}": len(one.signatures)
        for part in (kernel, profile) for name, one in vars(part).items() if hasattr(one, "signatures")
    }

home, now_us = Path(sys.argv[1]), 1_800_000_000_000_000
models = ModelCaller(Limits(deadline_s=60.0))
judge = _loader(read_settings({"home": home}), models, KnownLists())(HomeDeployment(home).read(), None)
before = compiled()
sent = b'{"transaction_id":"t","event_time":1800000000,"amount":5,"card":"c","shop":"s","channel":"web","risk":0.5}'
events = [judge.schema.decode(sent)]
columns = judge.columns(events, now_us)
[judged] = judge.judge(events, columns, {}, np.zeros(1, bool), now_us)
models.stop()
assert len(judged.scores) == 1
assert sum(before.values()) > 0
assert compiled() == before, (before, compiled())
"""


def test_nothing_is_compiled_in_the_first_turn(shop_home):
    done = subprocess.run(
        [sys.executable, "-c", JUDGE, str(shop_home)], capture_output=True, text=True, env=dict(os.environ)
    )
    assert done.returncode == 0, done.stderr[-3000:]
