"""Services: started once, found again, stopped with their data kept, and clear about what went wrong."""

import contextlib
import os
import socket
import stat
import subprocess
import sys
import threading
from pathlib import Path

import msgspec
import pytest
from page_server import SERVER, page_server

from services import processes
from services.answering import page_opens
from services.catalog import CATALOG
from services.keeper import Keeper
from services.service import ServiceFailed


def quiet(_said):
    pass


def starts(keeper, name):
    return len((keeper.folder / name / "starts").read_text())


def test_a_service_is_started_once_and_found_again_by_another_process(keep):
    keeper = keep(page_server("page"))
    first = keeper.up("page", quiet)
    assert page_opens(first.url)
    other = Keeper(keeper.catalog, keeper.folder)
    assert (other.up("page", quiet), other.all_running()) == (first, [first])
    assert starts(keeper, "page") == 1


def test_what_a_service_needs_is_started_before_it(keep):
    keeper = keep(page_server("below"), page_server("above", needs=("below",)))
    assert keeper.up("above", quiet).environment["NEEDED"] == "below"
    assert [one.name for one in keeper.all_running()] == ["below", "above"]


def test_a_stop_keeps_the_folder_the_port_and_the_password(keep):
    keeper = keep(page_server("page"))
    first = keeper.up("page", quiet)
    assert keeper.stop("page")
    assert not page_opens(first.url)
    assert (keeper.stop("page"), keeper.running("page")) == (False, None)
    second = keeper.up("page", quiet)
    assert (second.url, second.environment) == (first.url, first.environment)
    assert second.pid != first.pid


def test_secrets_are_their_owners(keep):
    keeper = keep(page_server("page"))
    found = keeper.up("page", quiet)
    for path in (keeper.folder / "page" / "running.json", Path(found.password_file)):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_server_that_dies_at_its_start_is_told_with_its_last_words(keep):
    keeper = keep(page_server("page", "import sys; sys.exit('the disk is made of cheese')"))
    with pytest.raises(ServiceFailed, match=r"page ended with 1: the disk is made of cheese"):
        keeper.up("page", quiet)
    assert keeper.running("page") is None


def test_a_server_that_ends_at_first_is_tried_again_as_often_as_it_asks_for(keep):
    second_time = "import os, sys\nif not os.path.exists('tried'):\n    open('tried', 'w').close()\n    sys.exit(3)\n"
    keeper = keep(page_server("page", second_time + SERVER, tries=2))
    assert page_opens(keeper.up("page", quiet).url)


def test_a_server_that_never_answers_is_ended_and_told(keep):
    keeper = keep(page_server("page", "import time; print('thinking', flush=True); time.sleep(60)", patience_s=0.5))
    with pytest.raises(ServiceFailed, match=r"does not answer after 0 s: thinking"):
        keeper.up("page", quiet)
    assert keeper.running("page") is None


def test_a_port_that_somebody_else_has_by_now_is_given_up_and_that_is_said(keep):
    keeper, said = keep(page_server("page")), []
    first = keeper.up("page", quiet)
    keeper.stop("page")
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with contextlib.suppress(OSError):  # or somebody else has it by now, indeed
            other.bind(("127.0.0.1", first.port))
            other.listen()
        second = keeper.up("page", said.append)
    assert second.port != first.port
    assert said == [
        f"page: its port {first.port} is taken by another process; it gets {second.port}",
        f"page: starts on port {second.port}",
    ]


def test_a_process_that_has_the_number_of_one_that_was_killed_is_not_taken_for_it(keep):
    keeper = keep(page_server("page"))
    first = keeper.up("page", quiet)
    stranger = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        processes.end(first.pid, first.began, 9)
        stale = msgspec.structs.replace(first, pid=stranger.pid)
        (keeper.folder / "page" / "running.json").write_bytes(msgspec.json.encode(stale))
        assert keeper.running("page") is None
        assert page_opens(keeper.up("page", quiet).url)
        assert stranger.poll() is None, "it was left alone"
    finally:
        stranger.kill()
        stranger.wait()


def test_two_commands_at_once_start_one_server(keep):
    keeper, found = keep(page_server("page")), []
    callers = [
        threading.Thread(target=lambda: found.append(Keeper(keeper.catalog, keeper.folder).up("page", quiet)))
        for _ in range(4)
    ]
    for one in callers:
        one.start()
    for one in callers:
        one.join()
    assert len({one.pid for one in found}) == 1
    assert starts(keeper, "page") == 1


def test_clean_stops_what_runs_and_deletes_all(keep):
    keeper = keep(page_server("page"))
    found = keeper.up("page", quiet)
    assert keeper.folder / "page" in keeper.parts()
    keeper.clean()
    assert not keeper.folder.exists()
    assert processes.began(found.pid) is None


def test_a_name_that_is_no_service_is_told_with_those_there_are(keep):
    with pytest.raises(ServiceFailed, match="there is no service 'redsi'; there are page"):
        keep(page_server("page")).up("redsi", quiet)


def test_what_a_service_needs_is_in_the_catalog():
    assert {one for service in CATALOG.values() for one in service.needs} <= CATALOG.keys()
    assert all(name == service.name for name, service in CATALOG.items())


def test_settings_of_ours_and_of_other_services_are_not_handed_on(keep, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "SENTINEL_KEY", "PGPASSWORD"):
        monkeypatch.setenv(name, "secret-of-somebody")
    show = f"import os; print(sorted(os.environ), file=open('seen', 'w'), flush=True)\n{SERVER}"
    keeper = keep(page_server("page", show))
    keeper.up("page", quiet)
    seen = (keeper.folder / "page" / "seen").read_text()
    assert "PATH" in seen
    assert not any(name in seen for name in ("AWS_ACCESS_KEY_ID", "SENTINEL_KEY", "PGPASSWORD"))
    assert os.environ["SENTINEL_KEY"] == "secret-of-somebody"
