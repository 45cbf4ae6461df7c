"""A run: a home folder through some lives of its processes, everything that happens in them drawn from one seed."""

import asyncio
import gc
import logging
import os
import random
import shutil
import sqlite3
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import shop
from clients import TELLERS, Clients
from late_log import LateLog
from machine import Machine, PowerCut, Process, machine, running, simulated
from witness import Models, Witness

from sentinel.errors import BundleProblem, LogDamaged, NotReady, Overloaded, SentinelError
from sentinel.events.reader import TransactionReader
from sentinel.model.bundle import load_bundle
from sentinel.model.registry import Registry
from sentinel.policy.deployment import Deployment
from sentinel.policy.model_call import Limits
from sentinel.record import home_log, projector, snapshotter
from sentinel.record.applied import Change, HomeDeployment, deployment_in, log_folder
from sentinel.record.audit import SENTINEL, By
from sentinel.record.erasure import erase
from sentinel.record.home_log import HomeLog
from sentinel.record.ids import IdIndex
from sentinel.record.journal import Journal
from sentinel.record.log_reader import FileLogReader
from sentinel.record.pruning import Retention
from sentinel.record.segment import bases_in
from sentinel.record.set_aside import SetAside
from sentinel.record.snapshots import Snapshots
from sentinel.record.subjects import SubjectKeys
from sentinel.record.views.place import ViewPlace
from sentinel.record.views.sqlite import FILE
from sentinel.record.whole_snapshots import StillKept
from sentinel.review import shadow_scores
from sentinel.serve import lineup
from sentinel.serve.engine import Engine
from sentinel.serve.log_keeper import LogKeeper
from sentinel.serve.rollout import Rollout
from sentinel.serve.worker import Worker
from sentinel.shadow import scoring
from sentinel.shadow.scoring import Shadow
from sentinel.shadow.settings import ShadowSettings
from sentinel.telemetry.counters import Counters
from sentinel.transport.http.revocations import RevokeBody, revocation_of, revoke

HOUR_US = 3_600_000_000
LONGEST = 60_000
"""Turns until a machine without faults has to have done everything."""


@contextmanager
def on_machines(models: Models) -> Iterator[Callable[[int], "Run"]]:
    """Makes runs, each of which is over when the next is made: `run_of(seed)`."""
    in_memory = Path("/dev/shm")  # noqa: S108 - a folder of its own in it
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(dir=in_memory if in_memory.is_dir() else None)))
        cores = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {max(cores)})  # one thread runs at a time: on one core that is quicker
        stack.callback(os.sched_setaffinity, 0, cores)
        stack.callback(logging.disable, logging.root.manager.disable)
        logging.disable(logging.CRITICAL)
        for module, name, instead in (
            (lineup, "load_warm", lambda registry, version: models.load(registry.path(version))),
            (snapshotter, "load_bundle", models.load),
            (scoring, "load_bundle", models.load),
            (home_log, "is_gone", lambda folder: not bases_in(machine().disk.names(folder))),  # that asks the real disk
        ):
            stack.callback(setattr, module, name, getattr(module, name))
            setattr(module, name, instead)
        stack.callback(gc.collect)  # what killed processes had open
        stack.enter_context(simulated())
        yield lambda seed: Run(seed, models, folder / "run")


class Loop:
    """The event loop of a server: the calls of a turn, then those they have made."""

    def __init__(self) -> None:
        self._calls: list[tuple[Callable[..., object], tuple[Any, ...]]] = []

    def call_soon(self, call: Callable[..., object], *args: Any) -> None:
        self._calls.append((call, args))

    call_soon_threadsafe = call_soon

    def run(self, machine: Machine) -> None:
        asyncio._set_running_loop(self)  # type: ignore[arg-type]
        while True:
            machine.block(lambda: bool(self._calls))
            calls, self._calls = self._calls, []
            for call, args in calls:
                try:
                    call(*args)
                except Exception as error:
                    machine.failure = machine.failure or error
                    raise


class NoVectors:
    """In the place of what scores vectors: it only hears which lineup decides."""

    reason = ""

    def switch(self, lineup: Any) -> None:
        pass


class Server:
    """The process that decides, as `sentinel.app` builds it, without HTTP."""

    def __init__(self, run: "Run") -> None:
        self.process, self.loop = Process("server"), Loop()
        self.log: HomeLog | None = None
        self.worker: Worker | None = None
        self.is_stopping = False
        self._run = run
        run.machine.spawn(self.process, "server", self.main)

    def main(self) -> None:
        run, machine = self._run, self._run.machine
        kind = LateLog if run.is_late else HomeLog
        self.log = kind.open(log_folder(run.home), machine.wall_us, run.segment_bytes)
        try:
            self.log.start_upkeep()
            if isinstance(self.log, LateLog):
                machine.spawn(self.process, "committer", lambda: self.log.commit(machine))

            async def change(how: Change, by: By = SENTINEL) -> Deployment:
                return worker.apply(how, by)

            registry = Registry(run.home / "models")
            rollout = Rollout(lambda: deployment_in(self.log), change, registry, Counters())
            worker = Worker(self.log, lambda: self._engine(rollout), 64)
            keeper = LogKeeper(run.home, self.log, Retention(run.keep_us, run.remember_us), ViewPlace(run.home))
            machine.spawn(self.process, "loop", lambda: self.loop.run(machine))
            self.loop.call_soon(self._start, rollout, worker, keeper)
            machine.block(lambda: self.is_stopping and self.worker is not None)
            rollout.stop()
            keeper.stop()
            worker.stop()
        finally:
            self.log.close()

    def _start(self, rollout: Rollout, worker: Worker, keeper: LogKeeper) -> None:
        rollout.start(NoVectors(), worker)
        worker.start()
        keeper.start(worker)
        self.worker = worker

    def _engine(self, rollout: Rollout) -> Engine:
        """As `app.open_engine`."""
        run = self._run
        ids = IdIndex(run.home / "ids", self.log, run.generation)
        journal = Journal(self.log, ids, SubjectKeys(run.home))
        set_aside, snapshots = SetAside(log_folder(run.home)), Snapshots(run.home / "snapshots")
        try:
            engine = Engine(rollout.first_lineup(), journal, snapshots, Limits(), Counters(), set_aside.note)
            journal.forget_before(self.log.first_after(run.machine.wall_us - run.remember_us))
        except BaseException:
            journal.close()
            raise
        return engine


class Run:
    """One seed. `go` raises AssertionError, or whatever else goes wrong."""

    def __init__(self, seed: int, models: Models, folder: Path) -> None:
        self.home = folder / "home"
        shutil.rmtree(folder, ignore_errors=True)
        self.home.mkdir(parents=True)
        (self.home / "models").symlink_to(models.folder)
        self.machine = machine = Machine(seed, self.home, shop.END_US + 600_000_000)
        self.random = machine.random
        self.segment_bytes = self.random.choice((12_288, 24_576))
        self.generation = self.random.choice((8, 32, 1 << 10))
        self.snapshot_every = self.random.choice((10, 40))
        self.keep_us = self.random.choice((None, HOUR_US, 4 * HOUR_US))
        self.remember_us = self.random.choice((1, 1, 48)) * HOUR_US
        self.witness = Witness(models, self.remember_us, self.keep_us)
        self.clients = Clients(machine, self.witness)
        self.own = random.Random(f"{seed} context")
        self.tells_context = bool(models.schema.events)
        self.is_late = self.random.random() < 0.3
        """Whether records become durable after they were written."""

        self.is_long = self.random.random() < 0.4
        """Whether some days go by, so that keys are forgotten and segments leave."""

        self.server: Server | None = None
        self.stalled: list[Process] = []
        self.children: dict[str, Process] = {}
        self.counts: Counter[str] = Counter()
        self._checked: Any = None
        self._first = 1
        self._faults = 0.0

    def go(self) -> str:
        """Do it all; the fingerprint of everything that has happened."""
        with running(self.machine):
            HomeDeployment(self.home).promote("v1")
            self.clients.revision = 1
            for _ in range(self.random.randint(1, 4)):
                self._live()
            self._end()
        return self.machine.fingerprint

    @property
    def result(self) -> Counter[str]:
        """What was done, and what was checked."""
        acknowledged = len(self.clients.answers)
        return self.counts + Counter(self.clients.counts, acknowledged=acknowledged, values=self.witness.values)

    # one life

    def _live(self) -> None:
        disk = self.machine.disk
        disk.faults = self._faults = self.random.choice((0.0, 0.0, 0.01, 0.1))
        disk.stop_after = self.random.choice((None, None, self.random.randint(1, 200)))
        power = self.random.random() < 0.5
        try:
            self._start()
            for _ in range(self.random.randint(50, 400)):
                self._step()
            draw = self.random.random()
            if draw < 0.5:
                self._calm_down()
            if draw < 0.3:
                self._stop()
        except PowerCut:
            self.counts["died at an operation"] += 1
        self._end_life(power=power)
        self.look()

    def _calm_down(self) -> None:
        """Without faults everybody is answered who still waits, and has not waited in vain; and somebody is decided."""
        self.machine.disk.faults = 0.0
        self._wake()
        before = self.clients.counts["answered"]
        for _ in range(40):
            is_at_work = self.clients.counts["answered"] > before
            if (is_at_work and not self.clients.waiting) or self._is_main_gone():
                return
            self._send()
            for _ in range(200):
                self._turn()
                self.machine.pass_time(50_000)
        assert not self.clients.waiting, f"{self.clients.waiting} requests are never answered"
        assert self.clients.counts["answered"] > before, "nothing is decided any more"

    def _end_life(self, *, power: bool) -> None:
        self.machine.trace(f"the end, power {power}")
        self.machine.end_all(power=power)
        self.machine.disk.faults = 0.0
        self.server, self.children = None, {}
        self.clients.log, self.clients.waiting = None, 0
        self.counts["ends"] += 1

    def _start(self) -> None:
        self.machine.trace("start")
        self.server = Server(self)
        for name, main in (("projector", self._project), ("snapshotter", self._save)):
            self._child(name, main)
        self._supervise()

    def _supervise(self) -> None:
        """Have the shadow run that the deployment names."""
        wanted = deployment_in(FileLogReader(log_folder(self.home))).shadow
        running = self.children.get("shadow")
        if wanted and (running is None or running.ended):
            self._child("shadow", self._shadow)
        elif running is not None and not running.ended and not wanted:
            self.machine.kill(running)

    def _child(self, name: str, main: Callable[[Process], object]) -> None:
        process = self.children[name] = Process(name)
        self.machine.spawn(process, name, lambda: main(process))

    def _project(self, process: Process) -> None:
        projector.follow(self.home, ViewPlace(self.home), lambda: not process.ended)

    def _save(self, process: Process) -> None:
        snapshotter.follow(self.home, self.snapshot_every, lambda: not process.ended)

    def _shadow(self, process: Process) -> None:
        version = deployment_in(FileLogReader(log_folder(self.home))).shadow
        if version is None:
            raise BundleProblem("the shadow was taken away before it began")
        shadow = Shadow(self.home, version, ShadowSettings())
        try:
            while not process.ended:
                if not shadow.step():
                    self.machine.block(lambda: False, 0.1)
        finally:
            shadow.close()

    # one step

    def _step(self) -> None:
        """Somebody sends something, or a thread has its turn, or time passes."""
        draw, machine = self.random.random(), self.machine
        if draw < 0.06:
            self._send()
        elif draw < (0.13 if self.is_long else 0.09):
            self._rarely()
        else:
            self._turn()
        if self.tells_context and self.own.random() < 0.04:
            self._tell()
        machine.pass_time(self.random.choice((1_000, 20_000, 300_000)))

    def _turn(self) -> None:
        machine = self.machine
        ready = machine.ready()
        if not ready:
            until = machine.next_timer_ns()
            machine.pass_time(max(int(until) - machine.now_ns, 0) if until < 1 << 62 else 1_000_000)
            return
        fiber = self.random.choice(ready)
        machine.trace(f"{machine.now_ns} {fiber.process.name}/{fiber.name}")
        machine.resume(fiber)
        if fiber.ended and fiber.process.error is not None:
            self._ended(fiber)
        self._look_at_engine()

    def _ended(self, fiber: Any) -> None:
        """A process, or a thread of it, has ended with an error."""
        error = fiber.process.error
        self.machine.trace(f"{fiber.process.name}/{fiber.name} ended: {type(error).__name__}")
        is_main = fiber.name == fiber.process.name
        if isinstance(error, LogDamaged) or not is_main or not isinstance(error, SentinelError):
            raise error
        self.machine.kill(fiber.process)
        self.counts[f"{fiber.process.name} ended"] += 1

    def _rarely(self) -> None:
        draw = self.random.random()
        if draw < 0.05:
            self._revoke()
        elif draw < 0.09:
            self._erase()
        elif draw < 0.35:
            self._change()
        elif draw < 0.7:
            self._pass_time()
        elif draw < 0.78:
            self._replace_child()
        elif draw < 0.84:
            self._wake()
        elif draw < 0.87:
            self._restart()
        elif draw < 0.90:
            self._second_server()
        elif draw < 0.93:
            self._break_disk()
        elif draw < 0.96:
            self._supervise()
        else:
            self.check_views()

    def _send(self) -> None:
        is_outcome = self.random.random() < 0.25
        self._deliver(self.clients.outcomes() if is_outcome else self.clients.payments(), is_outcome=is_outcome)

    def _deliver(self, events: list[Any], *, is_outcome: bool = False) -> None:
        """A request that the loop reads in its next turn; it is refused as the API would."""
        server, clients = self.server, self.clients
        self.machine.trace(f"send {[one.transaction_id for one in events]}")

        def arrive() -> None:
            clients.log = server.log
            put, sent = server.worker.put_outcomes if is_outcome else server.worker.put, events
            try:
                if not is_outcome:
                    sent = clients.read(events, None)
                    sent = clients.read(events, server.worker.ready_engine())
            except SentinelError:  # no engine, or what is personal cannot be sealed
                clients.request(sent).reply([NotReady("nothing was stored")] * len(sent))
                return
            request = clients.request(sent)
            try:
                put(request)
            except (NotReady, Overloaded) as error:
                refusal = NotReady("nothing was stored") if isinstance(error, NotReady) else error
                request.reply([refusal] * len(events))

        if server.worker is not None and not server.is_stopping:
            server.loop.call_soon(arrive)
            self.counts["requests"] += 1

    def _tell(self) -> None:
        """A request with context events, as `_deliver`."""
        server, clients = self.server, self.clients
        events, told_by = clients.events(self.own), self.own.choice(("operator", "app"))
        self.machine.trace(f"tell {[one.event_id for one in events]}")

        def arrive() -> None:
            clients.log = server.log
            try:
                sent = clients.read_events(events, told_by, None)
                sent = clients.read_events(events, told_by, server.worker.ready_engine())
            except SentinelError:
                clients.request(sent).reply([NotReady("nothing was stored")] * len(sent))
                return
            request = clients.request(sent)
            try:
                server.worker.put_events(request)
            except (NotReady, Overloaded) as error:
                refusal = NotReady("nothing was stored") if isinstance(error, NotReady) else error
                request.reply([refusal] * len(events))

        if server.worker is not None and not server.is_stopping:
            server.loop.call_soon(arrive)

    def _change(self) -> None:
        """Somebody changes the deployment."""
        server, clients = self.server, self.clients
        how = self.random.choice(_CHANGES)
        by = By(self.random.choice(("anna", "ben")), "10.0.0.1", f"POST {how.__name__}")

        def arrive() -> None:
            try:
                change = how(self.random.random())
                kept = self._check_kept(change(deployment_in(server.log)), server.log)

                def checked(before: Deployment) -> Deployment:
                    for one in kept:
                        one.check()
                    return change(before)

                clients.revision = server.worker.apply(checked, by).revision
                self.machine.trace(f"revision {clients.revision}")
            except SentinelError as error:
                self.machine.trace(f"not changed: {type(error).__name__}")

        if server.worker is not None and not server.is_stopping:
            server.loop.call_soon(arrive)

    def _revoke(self) -> None:
        """Somebody takes outcomes back, all of a key or those of some time, and goes on while there are more."""
        server, witness = self.server, self.witness
        told_by, _ = self.random.choice(TELLERS)
        us = self.random.choice((None, 60_000_000, HOUR_US))
        asked = RevokeBody(told_by, "stolen", None if us is None else (self.machine.wall_us - us) / 1e6)
        by = By("anna", "10.0.0.1", "POST /admin/outcomes/revoke")
        witness.maybe_revoked.add((told_by, "stolen"))

        def revoke_all() -> None:
            position, before = 0, None
            try:
                while before is None or position < before:
                    step = revoke(server.worker, msgspec.structs.replace(asked, position=position, before=before), by)
                    position, before = step.position, step.before
            except (SentinelError, TimeoutError) as error:
                self.machine.trace(f"not revoked: {type(error).__name__}")
                return
            with_quiet, self.machine.preemption = self.machine.preemption, 0.0
            witness.follow(server.log)
            witness.check_revoked(revocation_of(asked, before), server.log.first)
            self.machine.preemption = with_quiet
            self.counts["revocations"] += 1

        if server.worker is not None and not server.is_stopping:
            self.machine.spawn(server.process, "revoker", revoke_all)

    def _erase(self) -> None:
        """Somebody has erased what is personal of a card; as the admin API does it."""
        server, witness = self.server, self.witness
        card = f"card-{self.random.randint(0, shop.CARDS)}"

        def errand(engine: Engine) -> tuple[int, int]:
            reader = TransactionReader(engine.schema, shop.SECRETS)
            witness.maybe_erased[card] = before = len(witness.sealings)
            done = erase(engine.journal.log, engine.journal.subjects, reader, ("card", card), self.machine.wall_us)
            return done.position, before

        def erase_it() -> None:
            try:
                position, before = server.worker.between_batches(errand).result(60)
                SubjectKeys(self.home).purge()
                while server.log.durable <= position:
                    server.worker.ready_engine()
                    self.machine.block(lambda: False, 0.01)
            except (SentinelError, TimeoutError) as error:
                self.machine.trace(f"not erased: {type(error).__name__}")
                return
            witness.erased[card] = max(before, witness.erased.get(card, 0))
            self.counts["erased"] += 1

        if server.worker is not None and not server.is_stopping:
            self.machine.spawn(server.process, "eraser", erase_it)

    def _check_kept(self, wanted: Deployment, log: HomeLog) -> list[StillKept]:
        """As the admin API: a model is refused of whose features the log has not enough any more."""
        named = wanted.champion, wanted.experiment.version if wanted.experiment else None, wanted.shadow
        manifests = [self.witness.models.bundles[version].manifest for version in filter(None, named)]
        return [StillKept(log, one, self.home / "snapshots") for one in manifests]

    def _pass_time(self) -> None:
        machine = self.machine
        if self.random.random() < 0.2:
            machine.turn_wall_clock(self.random.choice((-1, 1)) * self.random.randint(1, 600) * 1_000_000)
        else:
            us = 600_000_000 if self.is_long else self.random.choice((1_000, 1_000_000, 60_000_000, 600_000_000))
            machine.pass_time(us * 1_000 * self.random.randint(1, 15 if self.is_long else 60))
            machine.write_back()
        machine.trace(f"it is {machine.wall_us}")

    def _replace_child(self) -> None:
        """One that follows the log is killed, or only stalled: then it may come back while another is at work."""
        name, draw = self.random.choice(sorted(self.children)), self.random.random()
        old, main = self.children[name], {"projector": self._project, "snapshotter": self._save, "shadow": self._shadow}
        if draw < 0.6 and name != "shadow":
            old.stalled = True
            self.stalled.append(old)
        else:
            self.machine.kill(old)
        if draw > 0.3:
            self._child(name, main[name])
        self.counts["children replaced"] += 1

    def _break_disk(self) -> None:
        """The disk refuses everything for a while, or does so no longer."""
        disk = self.machine.disk
        disk.faults = self._faults if disk.faults == 1.0 else 1.0
        self.counts["broken disks"] += 1

    def _wake(self) -> None:
        """Let those go on that were stalled."""
        for process in self.stalled:
            process.stalled = False
            self.counts["zombies"] += 1
        self.stalled.clear()

    def _restart(self) -> None:
        """The server is told to end, and another one starts."""
        self._stop()
        self.server = Server(self)

    def _stop(self) -> None:
        server = self.server
        server.is_stopping = True
        self.until(lambda: server.process not in {one.process for one in self.machine.fibers} or self._is_main_gone())
        self.machine.kill(server.process)
        self.counts["stopped"] += 1

    def _is_main_gone(self) -> bool:
        return not any(one.name == "server" for one in self.machine.fibers)

    def _second_server(self) -> None:
        """While a server is there, if only stalled, no other becomes the writer."""
        first = self.server
        if first.log is None or self._is_main_gone():
            return
        first.process.stalled = True
        self.server = Server(self)
        for _ in range(self.random.randint(10, 60)):
            self._turn()
        first.process.stalled = False
        if self.server.log is None:
            self.machine.kill(self.server.process)
            self.server = first
            self.counts["servers refused"] += 1

    def until(self, is_so: Callable[[], bool]) -> None:
        for n in range(LONGEST):
            if n % 8 == 0 and is_so():
                return
            self._turn()
            self.machine.pass_time(50_000)
        raise AssertionError(f"it never ends; waiting: {[(one.process.name, one.name) for one in self.machine.fibers]}")

    # what has to hold

    def _look_at_engine(self) -> None:
        """A new engine, or one with other states, has those of the log."""
        server = self.server
        engine = server.worker.engine if server and server.worker else None
        if engine is None or not self._is_settled(engine, server.log):
            return
        shown = engine, *engine.states.values()
        if (
            self._checked is not None
            and len(shown) == len(self._checked)
            and all(a is b for a, b in zip(shown, self._checked, strict=True))
        ):
            return
        self._checked = shown
        self._check_states(engine, server.log)

    def _is_settled(self, engine: Engine, log: HomeLog) -> bool:
        """Whether what the engine knows is durable, all of it."""
        return not engine.is_ahead and all(one.position <= log.durable for one in engine.states.values())

    def _check_states(self, engine: Engine, log: HomeLog) -> None:
        with_quiet = self.machine.preemption
        self.machine.preemption = 0.0
        self.witness.follow(log)
        for state in engine.states.values():
            self.witness.check_state(state)
        self.counts["states checked"] += 1
        self.machine.preemption = with_quiet

    def check_views(self) -> None:
        log = FileLogReader(log_folder(self.home))
        self.witness.follow(log)
        if self._position(FILE, "SELECT position FROM progress"):
            self.witness.check_view(self.home / FILE, log.first)
            self.counts["views checked"] += 1
        log.close()

    def look(self) -> None:
        """After the end, on the disk alone."""
        log = HomeLog(log_folder(self.home), self.machine.wall_us, self.machine.disk, self.segment_bytes)
        self.counts["segments pruned"] += log.first > self._first
        self._first = log.first
        self.witness.compare(log, self.machine.latest_us)
        self.counts["personal"] += self.witness.check_personal(SubjectKeys(self.home), log.first)
        self.clients.check_kept()
        log.close()

    def _end(self) -> None:
        """Without faults: everybody is ready again, answers, and has done all there is to do."""
        self.machine.trace("the last life")
        self.stalled.clear()
        self._start()
        self.until(lambda: self.server.worker is not None and self.server.worker.engine is not None)
        for _ in range(5):
            self._send()
        for _ in range(3 if self.tells_context else 0):
            self._tell()
        for name in sorted(self.clients.unanswered)[:20]:
            self._deliver([self.clients.sent[name]])
        self.until(lambda: not self.clients.waiting)
        self.until(lambda: self._is_settled(self.server.worker.engine, self.server.log))
        self._check_states(self.server.worker.engine, self.server.log)
        self.until(self._is_view_complete)
        self.check_views()
        if deployment_in(self.server.log).shadow:
            self._supervise()
            self.until(lambda: self._is_shadow_complete(self.server.log.durable))
            self.counts["shadow scores"] += self.witness.check_shadow(self.home / shadow_scores.FILE, "v2")
        self._stop()
        self._end_life(power=False)
        self.look()

    def _is_view_complete(self) -> bool:
        return self._position(FILE, "SELECT position FROM progress") == self.server.log.durable

    def _is_shadow_complete(self, end: int) -> bool:
        return self._position(shadow_scores.FILE, "SELECT seq FROM shadows WHERE model_version = 'v2'") >= end

    def _position(self, file: str, query: str) -> int:
        """How far a view is; 0 while there is none."""
        if not (self.home / file).exists():
            return 0
        with closing(sqlite3.connect(self.home / file)) as view, suppress(sqlite3.OperationalError):
            return view.execute(query).fetchone()[0]
        return 0


def _other_champion(_: float) -> Callable[[Deployment], Deployment]:
    return lambda now: now.with_champion("v2" if now.champion == "v1" else "v1")


def _experiment(_: float) -> Callable[[Deployment], Deployment]:
    return lambda now: now.with_experiment("v2" if now.champion == "v1" else "v1")


def _split(draw: float) -> Callable[[Deployment], Deployment]:
    return lambda now: now.with_split(100 * draw)


def _end_experiment(draw: float) -> Callable[[Deployment], Deployment]:
    return lambda now: now.promoted() if draw < 0.5 else now.aborted("asked to")


def _shadow_on(_: float) -> Callable[[Deployment], Deployment]:
    return lambda now: msgspec.structs.replace(now, shadow=None if now.shadow else "v2")


def _fallback(draw: float) -> Callable[[Deployment], Deployment]:
    return lambda now: msgspec.structs.replace(now, fallback_only=draw < 0.3)


_CHANGES = (
    _other_champion,
    _other_champion,
    _other_champion,
    _experiment,
    _split,
    _end_experiment,
    _shadow_on,
    _fallback,
)


if __name__ == "__main__":  # simulation.py MODELS SEED prints the fingerprint of a run
    with on_machines(Models(Path(sys.argv[1]), load_bundle)) as run_of:
        print(run_of(int(sys.argv[2])).go())
