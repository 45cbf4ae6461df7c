"""The shadow as a process: killed, hung, refused, replaced and stopped; the caller never waits."""

import os
import signal
import subprocess
import sys
import time

import pytest

from sentinel.review.shadow_scores import ShadowScores
from sentinel.shadow.settings import ShadowSettings
from sentinel.shadow.supervisor import ShadowSupervisor

QUICK = ShadowSettings(poll_s=0.02, hang_after_s=3.0, first_wait_s=0.1, longest_wait_s=5.0)


@pytest.fixture
def supervise(home):
    opened = []

    def start(settings=QUICK):
        opened.append(ShadowSupervisor(home, settings))
        return opened[-1]

    yield start
    for supervisor in opened:
        supervisor.close()


def test_scores_survive_kills_and_hangs(home, server, supervise, until, exists):
    server.decide(100)
    begun, supervisor = server.log.durable, supervise()
    began = time.monotonic()
    supervisor.follow("v2")
    assert time.monotonic() - began < 0.05
    assert supervisor.status().version == "v2"
    until(lambda: supervisor.status().running)
    assert os.getpriority(os.PRIO_PROCESS, supervisor.status().pid) == 19
    server.decide(1000)
    until(lambda: supervisor.status().scored > 0)

    killed = supervisor.status().pid
    os.kill(killed, signal.SIGKILL)
    server.decide(1000)
    until(lambda: "signal 9" in (supervisor.status().reason or ""))
    assert supervisor.status().restarts >= 1
    until(lambda: supervisor.status().scored == 2000)

    hung = supervisor.status().pid
    os.kill(hung, signal.SIGSTOP)
    server.decide(200)
    until(lambda: "no sign of life for 3 s" in (supervisor.status().reason or ""))
    assert supervisor.status().restarts >= 2
    assert not exists(hung)
    until(lambda: supervisor.status().scored == 2200)

    last = supervisor.status().pid
    began = time.monotonic()
    supervisor.follow(None)
    assert time.monotonic() - began < 0.05
    until(lambda: not exists(last))
    assert supervisor.status().version is None

    scores = ShadowScores(home / "shadow.db")
    rows = scores.page_before("v2", None)
    scores.close()
    assert {row.seq: row.fraud_probability for row in rows} == {
        seq: score for seq, score in server.offline("v2").items() if seq >= begun
    }


def test_one_replaces_another_and_close_leaves_none(server, supervise, until, exists):
    supervisor = supervise()
    supervisor.follow("v2")
    until(lambda: supervisor.status().running)
    before = supervisor.status().pid
    supervisor.follow("v1")
    until(lambda: supervisor.status().running and supervisor.status().version == "v1")
    after = supervisor.status().pid
    assert not exists(before)
    assert supervisor.status().restarts == 0
    supervisor.close()
    assert not exists(after)


def test_what_cannot_work_is_told_and_not_tried_all_the_time(supervise, until):
    supervisor = supervise()
    supervisor.follow("v9")
    until(lambda: supervisor.status().restarts)
    status = supervisor.status()
    assert "there is no model 'v9'" in status.reason
    assert not status.running
    time.sleep(0.5)  # an early death would have been followed by another start
    assert supervisor.status().pid is None


def test_it_dies_with_its_parent_even_while_it_hangs(home, server, until, exists):
    code = f"""
import time
from pathlib import Path
from sentinel.shadow.supervisor import ShadowSupervisor
supervisor = ShadowSupervisor(Path({str(home)!r}))
supervisor.follow("v2")
while not supervisor.status().running:
    time.sleep(0.02)
print(supervisor.status().pid, flush=True)
time.sleep(60)
"""
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    shadow = int(parent.stdout.readline())
    os.kill(shadow, signal.SIGSTOP)
    parent.kill()
    parent.communicate()
    until(lambda: not exists(shadow))
