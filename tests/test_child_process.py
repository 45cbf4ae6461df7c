"""Processes beside a server: one that dies is started again, and later each time while it keeps dying."""

import itertools
import multiprocessing
import time

from sentinel.child_process import Crew


def fail() -> None:
    raise SystemExit(7)


def wait() -> None:
    time.sleep(60)


def test_one_that_keeps_dying_is_started_ever_later_and_the_others_go_on(caplog):
    started = []

    def start(number):
        process = multiprocessing.get_context("fork").Process(target=fail if number else wait, daemon=True)
        process.start()
        started.append((number, process))
        if number:
            process.join(10)
        return process

    crew = Crew(start, 2, now_s=0.0)
    now_s, moments = 0.0, []
    while now_s < 100.0:
        before = len(started)
        crew.look(now_s)
        moments += [now_s] * (len(started) - before)
        now_s += 0.25
    pauses = [later - earlier for earlier, later in itertools.pairwise(moments)]
    assert moments[0] == 0.5
    assert all(earlier <= later for earlier, later in itertools.pairwise(pauses))
    assert 25 < pauses[-1] < 35
    assert len(started) < 12
    assert started[0][1].is_alive()
    assert "process 2 of 2 ended with code 7; it is started again in 0.5 s" in caplog.text
    crew.stop()
    assert not started[0][1].is_alive()
