"""`sentinel doctor` names what is wrong before it costs anything."""

from sentinel.commands.doctor import examine
from sentinel.config import Settings


def test_a_log_that_cannot_leave_before_its_ids_is_named(tmp_path):
    (found,) = [one for one in examine(Settings(home=tmp_path, keep_log="30d")) if one.what == "log"]
    assert not found.ok
    assert "make SENTINEL_REMEMBER_IDS no longer than SENTINEL_KEEP_LOG" in found.found
