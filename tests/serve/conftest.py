"""A home in which engines come and go under traffic, a log in memory, and a disk that refuses."""

import importlib.util
import time
from pathlib import Path

import pytest

from sentinel.events.columns import Outcome
from sentinel.policy.model_call import Limits
from sentinel.record.entries import decision_rows, outcome_rows
from sentinel.record.feature_state import FeatureState, activation_of
from sentinel.record.file_log import FileLog
from sentinel.record.ids import IdIndex
from sentinel.record.journal import Journal
from sentinel.record.log import Follower, Kind
from sentinel.record.snapshots import Snapshots
from sentinel.serve.batch import Arrivals
from sentinel.serve.engine import Engine
from sentinel.telemetry.counters import Counters

BEGIN_US = 1_738_400_000_000_000  # after the history of v1, v2 and v4
NOW_US = BEGIN_US + 86_400_000_000  # after what is paid, before the end of the history of v3
STEP_US = 60_000_000
NEVER_NS = 2**62
PATIENT = Limits(deadline_s=10.0)
SEGMENT = 1 << 20


class Home:
    """A folder with a log (on the disk, unless `log` is given), and at most one engine on it.

    `now_us` is its clock. What is stored is read from the log alone, never from the engine.
    """

    def __init__(self, folder: Path, lineup, log=None) -> None:
        self.folder, self.lineup = folder, lineup
        self.segment = SEGMENT
        self.now_us = NOW_US
        self.counters = Counters()
        self._given = log
        self._snapshots = Snapshots(folder / "snapshots")
        self.engine: Engine | None = None

    def open(self, limits: Limits = PATIENT) -> Engine:
        self.log = self._given or FileLog.open(self.folder / "log", self.now_us, self.segment)
        journal = Journal(self.log, IdIndex(self.folder / "ids", self.log))
        self.engine = Engine(self.lineup, journal, self._snapshots, limits, self.counters)
        self.engine.begin(self.now_us)
        return self.engine

    def close(self) -> None:
        """Go. (What a kill does to a process is tested in tests/scenarios.)"""
        self.engine.close()
        self.log.close()
        self.engine = None

    def reopen(self, limits: Limits = PATIENT) -> Engine:
        self.close()
        return self.open(limits)

    def recover(self) -> Engine:
        """What the opener does after a fault."""
        self.engine.close()
        self.log.recover()
        return self.open()

    def save(self) -> None:
        """Have a snapshot of every state, as it is by now in the log."""
        for state in self.engine.states.values():
            saved = FeatureState(state.bundle, state.begin)
            saved.load(self.log, self._snapshots)
            saved.snapshot(self.log, self._snapshots)

    def payment(self, i: int, **changes):
        fields = {
            "transaction_id": f"t{i}", "event_time": BEGIN_US + i * STEP_US, "amount": 5.25 + i * 37 % 290,
            "card": f"card-{i % 23}", "shop": f"shop-{i % 3}", "channel": ("web", "chip", None)[i % 3],
            "risk": 0.5 - i % 11,
        }  # fmt: skip
        return self.lineup.champion.bundle.manifest.plan.schema.wire_type(**fields | changes)

    def outcome(self, i: int, *, is_fraud: bool = True) -> Outcome:
        return Outcome(f"t{i}", is_fraud, BEGIN_US + i * STEP_US)

    def answered(self, events, due_ns=None):
        """Decide transactions, or learn outcomes, in one batch; `due_ns` by row."""
        arrivals = Arrivals(events, [time.monotonic_ns()] * len(events), due_ns or [NEVER_NS] * len(events))
        step = self.engine.learn if isinstance(events[0], Outcome) else self.engine.decide
        return step(arrivals, self.now_us)

    def handle(self, events, due_ns=None):
        answers = self.answered(events, due_ns).answers
        assert len(answers) == len(events)
        return answers

    def pay(self, numbers, at_once: int = 7):
        """Payments in batches, and their answers."""
        numbers, answers = list(numbers), []
        for begin in range(0, len(numbers), at_once):
            answers += self.handle([self.payment(i) for i in numbers[begin : begin + at_once]])
        return answers

    def records(self):
        return [record for page in Follower(self.log, self.log.first).rest() for record in page]

    def decisions(self):
        """The stored decisions, in order."""
        return [row for one in self.records() if one.kind == Kind.DECIDED for row in decision_rows(one)]

    def outcomes(self):
        """The stored outcomes, in order."""
        return [row for one in self.records() if one.kind == Kind.OUTCOMES for row in outcome_rows(one)]

    def held(self) -> dict[str, dict[str, list[bytes]]]:
        """All that the engine's states hold."""
        return {name: _held(state) for name, state in self.engine.states.items()}

    def assert_states_are_those_of_a_replay(self) -> None:
        """Of states that have seen nothing but their history and the log."""
        unused = Snapshots(self.folder / "unused")
        for name, held in self.held().items():
            replay = FeatureState(self.engine.states[name].bundle, activation_of(self.log, name))
            replay.load(self.log, unused)
            assert held == _held(replay)


def _held(state: FeatureState) -> dict[str, list[bytes]]:
    store = state.store
    return {by: sorted(store.export(by, store.keys_of(by))) for by in store.groups}


def _helper(name: str):
    path = Path(__file__).parents[1] / "record" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def fake_log():
    """The module with `FakeLog`."""
    return _helper("fake_log")


@pytest.fixture(scope="session")
def simulated_disk():
    """The module with `SimulatedDisk`."""
    return _helper("simulated_disk")


@pytest.fixture
def home_of(tmp_path):
    """Makes homes, and ends them: `home_of(lineup, log=None, folder="home")`."""
    made = []

    def make(lineup, log=None, folder: str = "home") -> Home:
        made.append(Home(tmp_path / folder, lineup, log))
        return made[-1]

    yield make
    for home in made:
        if home.engine:
            home.close()
