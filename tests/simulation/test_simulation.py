"""The pipeline on a simulated machine: what holds for every seed, and that a seed which breaks it would be found.

`SENTINEL_PIPELINE_RUNS` says how many seeds are tried, `SENTINEL_SEED` the first of them.
"""

import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from planted_bugs import BUGS, CONTEXT_BUGS, FOUND_BY

from sentinel.errors import StorageProblem

pytestmark = [  # a process that is killed closes nothing
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
RUNS = int(os.environ.get("SENTINEL_PIPELINE_RUNS", "20"))
FIRST = int(os.environ.get("SENTINEL_SEED", "1"))
MOST_SEEDS = 60
"""So many seeds have to find a planted bug."""


@pytest.mark.timeout(120 + 20 * RUNS)
def test_every_seed_keeps_what_was_promised(run_of, capsys):
    counts = all_of(range(FIRST, FIRST + RUNS), run_of, capsys)
    assert counts["answered"] > 10 * RUNS
    assert counts["challenged"] > RUNS
    assert counts["values"] > 50 * RUNS


@pytest.mark.timeout(120 + 20 * RUNS)
def test_every_seed_keeps_what_was_promised_of_context_events(run_with_context, capsys):
    seeds = range(FIRST, FIRST + max(RUNS // 3, 1))
    counts = all_of(seeds, run_with_context, capsys)
    assert counts["heard"] > 5 * len(seeds)


def all_of(seeds, run_of, capsys):
    """What was done in the runs of these seeds."""
    counts, began_s = Counter(), time.monotonic()
    for seed in seeds:
        run = run_of(seed)
        try:
            run.go()
        except BaseException:
            with capsys.disabled():
                print("", *run.machine.lines, sep="\n")
                print(f"SENTINEL_SEED={seed} SENTINEL_PIPELINE_RUNS=1 shows this again")
            raise
        counts += run.result
    with capsys.disabled():
        a_minute = len(seeds) / (time.monotonic() - began_s) * 60
        print(f"\n{len(seeds)} seeds from {FIRST}, {a_minute:.0f} a minute: {dict(counts)}")
    return counts


def test_a_seed_is_one_run(run_of):
    first, other, again = (run_of(seed).go() for seed in (7, 8, 7))
    assert first == again != other


def test_a_seed_is_the_same_run_in_another_process(run_of, models):
    here = run_of(9).go()
    code = [sys.executable, str(Path(__file__).with_name("simulation.py")), str(models.folder), "9"]
    folders = ["tests/simulation", "tests/record", "tests/features", "src"]
    root = Path(__file__).parents[2]
    environment = os.environ | {"PYTHONPATH": ":".join(str(root / one) for one in folders), "PYTHONHASHSEED": "5"}
    there = subprocess.run(code, env=environment, capture_output=True, text=True, check=True, cwd=root)
    assert there.stdout.strip() == here


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", BUGS)
def test_a_planted_bug_is_found(name, run_of, monkeypatch, capsys):
    BUGS[name](monkeypatch.setattr)
    find(name, run_of, capsys)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", CONTEXT_BUGS)
def test_a_planted_bug_about_events_is_found(name, run_with_context, monkeypatch, capsys):
    CONTEXT_BUGS[name](monkeypatch.setattr)
    find(name, run_with_context, capsys)


def find(name, run_of, capsys):
    """Raise AssertionError unless a seed finds it; says so when that is another one than last time."""
    first = FOUND_BY.get(name, 1)
    for seed in dict.fromkeys((first, *range(1, MOST_SEEDS + 1))):
        try:
            run_of(seed).go()
        except (AssertionError, StorageProblem):
            if seed != first:
                with capsys.disabled():
                    print(
                        f"\nseed {seed} finds it, not {first}: FOUND_BY of planted_bugs.py should have {name!r}: {seed}"
                    )
            return
    raise AssertionError(f"{MOST_SEEDS} seeds do not find it")
