"""The opener: one engine after the other, and after a fault nobody is told anything before it is known."""

import threading

import pytest

from sentinel.errors import NotReady, StorageProblem
from sentinel.serve import opener as opener_module
from sentinel.serve.opener import Opener

PATIENCE_S = 20
FULL = StorageProblem("no space left on device")


class Opened:
    """All that the opener knows of an engine: it can be let go."""

    def __init__(self, shop, number):
        self.shop, self.number = shop, number

    def close(self):
        self.shop.note(f"let {self.number} go")
        if self.shop.is_sticky:
            raise OSError("the folder is gone")


class Shop:
    """Opens engines, and notes what happens in which order. `faults` are raised by the next openings."""

    def __init__(self, log):
        self.noted, self.opened, self.told = [], 0, []
        self.faults, self.install_faults = [], []
        self.is_sticky = False
        self._more = threading.Condition()
        self.log = log
        self.engine = None
        recover = log.recover

        def noting():
            self.note("recover")
            recover()
            self.note("recovered")

        log.recover = noting
        self.opener = Opener(log, self._open, self._install)

    def _open(self):
        if self.faults:
            self.note("not opened")
            raise self.faults.pop(0)
        self.opened += 1
        self.note(f"open {self.opened}")
        return Opened(self, self.opened)

    def _install(self, engine):
        if self.install_faults:
            raise self.install_faults.pop(0)
        self.engine = engine
        self.note(f"install {engine.number}")

    def note(self, what):
        with self._more:
            self.noted.append(what)
            self._more.notify_all()

    def until(self, what, times=1):
        with self._more:
            assert self._more.wait_for(lambda: self.noted.count(what) >= times, PATIENCE_S), self.noted

    def tell(self, fate):
        self.told.append(fate)
        self.note("told")

    def replace(self, error=FULL):
        engine, self.engine = self.engine, None
        self.opener.replace(engine, error, self.tell)


@pytest.fixture
def shop(fake_log, monkeypatch):
    monkeypatch.setattr(opener_module, "_RETRY_S", 0.01)
    shop = Shop(fake_log.FakeLog())
    yield shop
    shop.log.heal()
    shop.opener.stop()


def test_the_first_engine_is_opened_and_nothing_is_declared_void_for_it(shop):
    assert (shop.opener.reason, shop.opener.was_open) == ("still loading", False)
    shop.opener.start()
    shop.until("install 1")
    shop.opener.stop()
    assert shop.opener.was_open
    assert shop.noted == ["open 1", "install 1"]


def test_what_cannot_be_opened_is_tried_again_and_the_reason_is_shown(shop, caplog):
    shop.faults = [NotReady("no champion")] * 3 + [ZeroDivisionError()] * 2
    shop.opener.start()
    shop.until("install 1")
    assert shop.noted.count("not opened") == 5
    assert shop.opener.reason == "ZeroDivisionError; the messages have the details"
    assert caplog.text.count("not ready: no champion") == 1, "once, and not every second"
    assert caplog.text.count("Traceback") == 1


def test_after_a_fault_all_is_let_go_and_declared_void_before_anyone_is_told(shop):
    shop.opener.start()
    shop.until("install 1")
    shop.replace()
    shop.until("install 2")
    assert shop.noted == ["open 1", "install 1", "let 1 go", "recover", "recovered", "told", "open 2", "install 2"]
    assert shop.told == ["no space left on device; nothing of this was stored: send it again with the same id"]


def test_while_the_log_cannot_recover_nothing_is_known_and_nothing_is_opened(shop):
    shop.opener.start()
    shop.until("install 1")
    shop.log.fail()
    shop.replace()
    shop.until("recover", times=5)
    assert shop.opened == 1
    assert shop.told == [
        "no space left on device; it is not known whether this was stored: send it again with the same id"
    ]
    assert "the test says so" in shop.opener.reason
    shop.log.heal()
    shop.until("install 2")
    assert len(shop.told) == 1


def test_who_comes_while_the_log_cannot_recover_is_told_too(shop):
    shop.opener.start()
    shop.until("install 1")
    shop.log.fail()
    shop.replace()
    shop.until("told")
    shop.replace(StorageProblem("a change could not be written"))
    shop.until("told", times=2)
    assert shop.told[1].startswith("a change could not be written; it is not known")
    shop.log.heal()
    shop.until("install 2")


def test_an_engine_that_cannot_begin_is_let_go_and_the_log_recovers_before_the_next(shop):
    shop.install_faults = [FULL]
    shop.opener.start()
    shop.until("install 2")
    assert shop.noted == ["open 1", "let 1 go", "recover", "recovered", "open 2", "install 2"]
    assert shop.told == []


def test_an_engine_that_cannot_be_let_go_is_left_alone(shop, caplog):
    shop.opener.start()
    shop.until("install 1")
    shop.is_sticky = True
    shop.replace()
    shop.until("install 2")
    assert shop.told
    assert "could not be released" in caplog.text


def test_a_recovery_that_fails_in_a_way_that_no_one_knows_is_tried_again(shop, monkeypatch):
    shop.opener.start()
    shop.until("install 1")
    recover, faults = shop.log.recover, [ZeroDivisionError()]

    def strange():
        if faults:
            raise faults.pop()
        recover()

    monkeypatch.setattr(shop.log, "recover", strange)
    shop.replace()
    shop.until("install 2")
    assert "it is not known" in shop.told[0]


def test_after_the_end_nothing_is_opened_and_a_fault_is_told_at_once(shop):
    shop.opener.start()
    shop.until("install 1")
    shop.opener.stop()
    shop.replace()
    assert shop.told == ["shutting down; it is not known whether this was stored"]
    assert shop.noted == ["open 1", "install 1", "let 1 go", "told"]


def test_the_end_does_not_wait_for_a_log_that_cannot_recover(shop):
    shop.opener.start()
    shop.until("install 1")
    shop.log.fail()
    shop.replace()
    shop.until("told")
    shop.opener.stop()
    assert shop.opener.reason == "shutting down"
    assert shop.opened == 1


def test_one_that_was_never_started_can_end(shop):
    shop.opener.stop()
    assert shop.noted == []
