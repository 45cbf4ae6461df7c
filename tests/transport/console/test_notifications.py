"""Admin, Notifications: what it shows equals the API; a test arrives, and what was parked is tried again."""

from contextlib import closing

import pytest

from sentinel.record.written import outbox
from sentinel.record.written.written_database import WrittenDatabase
from tests.transport.console.conftest import HOSTILE, until
from tests.transport.messages.conftest import Receiver


@pytest.fixture(scope="module")
def receiver():
    made = Receiver()
    yield made
    made.close()


@pytest.fixture(scope="module")
def server_settings(receiver):
    return {
        "SENTINEL_WEBHOOK_URL": receiver.url, "SENTINEL_WEBHOOK_SECRET": "w" * 40, "SENTINEL_WEBHOOK_PRIVATE": "true",
    }  # fmt: skip


def rows_of(page):
    return [row.split("\t") for row in page.locator("main table").last.locator("tbody tr").all_inner_texts()]


def park(home):
    """A message that did not arrive."""
    with closing(WrittenDatabase(home)) as database, database.writing() as writer:
        outbox.put(writer, "case.overdue", HOSTILE, {"text": "late"}, 2**50)
        outbox.deal(writer, lambda _: ("webhook 1",), 2**50, 10)
        (one,) = outbox.due(writer, 2**50, 10)
        outbox.park(writer, one.number, "it answered 500", 2**50)


def test_an_admin_sees_what_did_not_arrive_and_has_it_tried_again(visit, site, receiver):
    admin = visit("admin")
    admin.go("/admin/notifications")
    assert "Everything has arrived" in admin.text(".head")
    assert "secret" not in admin.text("main")
    admin.page.click("text=Send a test")
    admin.page.wait_for_selector(".note.good:has-text('it arrived')")
    assert [one["kind"] for one in receiver.messages] == ["notification.test"]
    park(site.home)
    admin.go("/admin/notifications")
    assert "1 message did not arrive" in admin.text(".head")
    found = site.api("/admin/notifications?state=parked")
    (row,) = rows_of(admin.page)
    assert found["counts"] == {"waiting": 0, "delivered": 0, "parked": 1}
    assert (row[0], row[2], row[5]) == ("case.overdue", "webhook 1", "parked")
    assert "it answered 500" in row[1]
    assert admin.page.title().startswith("Notifications")
    admin.page.click("text=Try again")
    admin.page.wait_for_selector(".note.good:has-text('is tried again')")
    until(lambda: site.api("/admin/notifications")["counts"]["delivered"] == 1)
    assert receiver.messages[-1]["about"] == HOSTILE
    until(lambda: "retry a notification" in str(site.api("/admin/audit?limit=100")))


def test_a_receiver_that_refuses_is_said(visit, receiver):
    admin = visit("admin")
    admin.go("/admin/notifications")
    receiver.how = "500"
    try:
        admin.page.click("text=Send a test")
        admin.page.wait_for_selector(".note.bad:has-text('it answered 500')")
    finally:
        receiver.how = "ok"


def test_only_admins_see_it(visit):
    operator = visit("operator")
    operator.go("/admin/notifications")
    assert "Notifications" not in operator.page.title()


def test_pictures(visit, tmp_path_factory):
    """Both widths, light and dark, without sideways scrolling; they are kept where pytest keeps its files."""
    folder = tmp_path_factory.mktemp("pictures")
    for scheme in ("light", "dark"):
        admin = visit("admin", color_scheme=scheme)
        admin.go("/admin/notifications")
        for width in (1280, 820):
            admin.page.set_viewport_size({"width": width, "height": 900})
            assert admin.page.evaluate("() => document.documentElement.scrollWidth") <= width
            admin.page.screenshot(path=folder / f"notifications-{scheme}-{width}.png")
