"""What a wide front asks Redis: the profiles of keys as of now, and who answered an id first."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from sentinel.errors import InvalidDefinition

if TYPE_CHECKING:
    from sentinel.record.online.store import OnlineStore

_AS_OF = b"as_of:"
_READ = """
local n = tonumber(ARGV[1])
local claims, profiles = {}, {}
if n > 0 then claims = redis.call('MGET', unpack(KEYS, 2, n + 1)) end
for i = n + 2, #KEYS do profiles[i - n - 1] = redis.call('HGET', KEYS[i], 'profile') end
return {redis.call('HGETALL', KEYS[1]), claims, profiles}
"""
_CLAIM = """
local found = {}
for i, key in ipairs(KEYS) do
  found[i] = redis.call('GET', key)
  if not found[i] then redis.call('SET', key, ARGV[i + 1], 'PX', ARGV[1]) end
end
return found
"""
_EVICTS = ("allkeys", "volatile")


class AsOf(NamedTuple):
    """What Redis says in one turn.

    `state_id` is the feature state that the profiles are of, empty where there are none. `as_of_us` is a moment before
    which everything that was received is in them. `claims` are by the ids that were asked for, `profiles` by group and
    key; None, or no entry, is nothing.
    """

    state_id: str
    as_of_us: int
    claims: Mapping[str, bytes]
    profiles: Mapping[tuple[str, int], bytes]


class FrontStore:
    """The part of an online view that fronts read, and their claims beside it; may be used from any thread.

    Every call is tried three times until `until_s` of the monotonic clock, and raises StorageProblem.
    """

    def __init__(self, store: "OnlineStore", claims_kept_ms: int) -> None:
        self._store, self._kept_ms = store, claims_kept_ms
        self._read, self._claim = store.script(_READ), store.script(_CLAIM)

    @property
    def name(self) -> str:
        """Where it is, without a password."""
        return self._store.name

    def check(self) -> None:
        """Write and read a key. Raises StorageProblem where that fails, InvalidDefinition where profiles may vanish."""
        self._store.exercise()
        policy = self._store.memory_policy()
        if policy is not None and policy.startswith(_EVICTS):
            raise InvalidDefinition(
                f"{self.name} deletes what it likes when its memory is full (maxmemory-policy {policy}): a key without "
                "its profile would pass for a new one; set maxmemory-policy noeviction"
            )

    def read(self, ids: Sequence[str], keys: Sequence[tuple[str, int]], until_s: float) -> AsOf:
        """What is known of these ids and keys, in one round trip."""
        names = [self._store.progress, *map(self._claim_name, ids), *(self._store.profile_name(*one) for one in keys)]
        told, claims, profiles = self._store.run(self._read, names, [len(ids)], until_s)
        told = dict(zip(told[::2], told[1::2], strict=True))
        return AsOf(
            told.get(b"state_id", b"").decode(),
            _as_of(told),
            {one: claim for one, claim in zip(ids, claims, strict=True) if claim is not None},
            {one: profile for one, profile in zip(keys, profiles, strict=True) if profile is not None},
        )

    def claim(self, answers: Mapping[str, bytes], until_s: float) -> dict[str, bytes]:
        """Claim each id for its answer; by id, what another front had claimed it for before.

        Doing it again finds what was claimed the first time.
        """
        names, values = list(map(self._claim_name, answers)), list(answers.values())
        found = self._store.run(self._claim, names, [self._kept_ms, *values], until_s)
        pairs = zip(answers, found, values, strict=True)
        return {name: first for name, first, own in pairs if first is not None and first != own}

    def close(self) -> None:
        """Release the connections."""
        self._store.close()

    def _claim_name(self, id_: str) -> str:
        return f"sentinel:claim:{self._store.project}:{id_}"


def _as_of(told: Mapping[bytes, bytes]) -> int:
    """The oldest moment of all that write; of a single follower the one that it has got to."""
    of_parts = [int(value) for name, value in told.items() if name.startswith(_AS_OF)]
    return min(of_parts) if of_parts else int(told.get(b"at_us", 0))
