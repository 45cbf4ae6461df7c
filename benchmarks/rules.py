"""What conditions cost: 200 rules of five conditions, and ten, a transaction in a batch of 64.

.venv/bin/python benchmarks/rules.py
"""

import platform
import time
from datetime import date

import numpy as np

from sentinel.events.columns import hash_text
from sentinel.policy.rules.machine import run
from sentinel.policy.rules.program import Program, compile_conditions
from sentinel.policy.rules.reading import Names, read_condition

ROWS, COLUMNS, ROUNDS = 64, 30, 300
COUNTRIES = ("de", "at", "ch")


def rules(count: int, share: float, chance: np.random.Generator) -> Program:
    """So many rules, each of four comparisons of numbers that `share` of the values fulfil, and one of a text."""
    names = Names([f"f{n}" for n in range(COLUMNS)], ("country",))
    text = "country in (" + ", ".join(f'"{one}"' for one in COUNTRIES) + ")"
    trees = []
    for _ in range(count):
        numbers = [f"f{chance.integers(COLUMNS)} > {1 - share}" for _ in range(4)]
        trees.append(read_condition(" and ".join([*numbers, text]), names))
    return compile_conditions(trees, hash_text)


def microseconds(program: Program, chance: np.random.Generator) -> float:
    """The least time of many, for one row of a batch."""
    numbers = chance.random((ROWS, len(program.numbers)))
    texts = np.full((ROWS, 1), hash_text("de"), np.uint64)
    lists = np.empty((ROWS, 0), np.bool_)
    run(program, numbers, texts, lists)
    times = []
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        run(program, numbers, texts, lists)
        times.append(time.perf_counter() - begun)
    return min(times) / ROWS * 1e6


if __name__ == "__main__":
    print(f"{date.today()}, {platform.machine()}, Python {platform.python_version()}; us a transaction, one core")
    for count, share in ((200, 0.5), (200, 0.95), (10, 0.5)):
        chance = np.random.default_rng(1)
        print(
            f"{count:4d} rules, {share:.0%} of values fulfil: {microseconds(rules(count, share, chance), chance):.2f}"
        )
