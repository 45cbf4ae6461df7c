"""Where several keepers of state write their profiles, each the keys that it has: the tasks of a job of Flink."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sentinel.errors import StorageProblem
from sentinel.record.online.layout import OnlineMoved, OnlinePosition, ProfileRow

if TYPE_CHECKING:
    from sentinel.record.online.store import OnlineStore

_BEAT = """
local is_ours = redis.call('HGET', KEYS[1], 'log_id') == ARGV[1] and redis.call('HGET', KEYS[1], 'state_id') == ARGV[2]
if not is_ours then return 0 end
redis.call('HSET', KEYS[1], 'as_of:' .. ARGV[3], ARGV[4])
return 1
"""
_BEGIN = """
for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
  if field:sub(1, 6) == 'as_of:' then redis.call('HDEL', KEYS[1], field) end
end
return redis.call('HSET', KEYS[1], unpack(ARGV))
"""


class KeeperStore:
    """The profiles of a project while the tasks of one job write them; may be used from any thread.

    `job` names the job, `state_id` the feature state that its profiles are of. Every call is tried three times, and
    raises StorageProblem.
    """

    def __init__(self, store: "OnlineStore", job: str, state_id: str) -> None:
        self._store, self._job, self._state_id = store, job, state_id
        self._beat, self._begin = store.script(_BEAT), store.script(_BEGIN)

    def begin(self, views: Sequence[Sequence[str]], *, goes_on: bool) -> None:
        """Make ready for a job that begins anew, or goes on from a checkpoint; call it before the job is started.

        `views` are the fields of all views. Raises StorageProblem where the profiles are of another keeper, or are not
        all there while the job goes on: it writes those of keys that come, and the others would be missing.
        """
        self._store.exercise()
        at = self._store.position()
        if at is not None and at.log_id != self._job:
            raise StorageProblem(
                f"the online view in {self._store.name} is that of a server's log; give the job another database of "
                "Redis (redis://host:6379/1)"
            )
        if goes_on and (at is None or at.state_id != self._state_id):
            raise StorageProblem(
                f"{self._store.name} does not have the profiles of this job, and a job that goes on from a checkpoint "
                "writes those of keys that come: begin with the topics' beginning, or leave SENTINEL_REDIS_URL out"
            )
        if not goes_on:
            self._store.clear(views)
        begun = OnlinePosition(self._job, 0, "", self._state_id, 0)
        self._store.run(
            self._begin, [self._store.progress], [part for item in begun._asdict().items() for part in item]
        )

    def write(self, group: str, rows: Sequence[ProfileRow]) -> None:
        """Write profiles, each where there is none of later events."""
        self._store.write_profiles(group, rows)

    def beat(self, part: str, as_of_us: int) -> None:
        """Say that all that a part of the job had received by then is written.

        Raises OnlineMoved where the view was emptied: the profiles of keys that are silent are gone.
        """
        if not self._store.run(self._beat, [self._store.progress], [self._job, self._state_id, part, as_of_us]):
            raise OnlineMoved(f"the profiles in {self._store.name} were emptied, or are another job's")

    def close(self) -> None:
        """Release the connections."""
        self._store.close()
