"""The online view in a Redis, or a Valkey: one server, or one with replicas behind it."""

import contextlib
import functools
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

from sentinel.errors import InvalidDefinition, StorageProblem
from sentinel.record.online.layout import (
    NEWER_WINS,
    ProfileRow,
    decode_moment,
    decode_value,
    encode_moment,
    entity_name,
    entity_prefix,
    field_of,
    is_of_project,
    moment_field,
)
from sentinel.retrying import retried

_AGAIN_WITHIN_S = 2.5
_KEYS_AT_ONCE = 256
_LATER_WINS = """
local n = 0
for i, key in ipairs(KEYS) do
  local at = (i - 1) * 3
  if (tonumber(redis.call('HGET', key, 'position')) or -1) <= tonumber(ARGV[at + 1]) then
    redis.call('HSET', key, 'position', ARGV[at + 1], 'profile', ARGV[at + 2])
    redis.call('PEXPIREAT', key, ARGV[at + 3])
    n = n + 1
  end
end
return n
"""
_MOVE = """
if (redis.call('HGET', KEYS[1], 'position') or '') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], unpack(ARGV, 2))
return 1
"""
_T = TypeVar("_T")


class OnlinePosition(NamedTuple):
    """Every entry of the log before `position` is in the view, for the feature state of this id.

    `chain` is the hash of the record before, `at_us` a moment by the wall clock: all that the log had by then is in
    the view.
    """

    log_id: str
    position: int
    chain: str
    state_id: str
    at_us: int


class FeatureRow(NamedTuple):
    """The features of a key at its newest transaction: its values, when that happened, and when Redis may forget it."""

    values: tuple[str, ...]
    time_us: int
    expires_ms: int
    features: list[bytes]


class KnownFeatures(NamedTuple):
    """What stands in Redis about a key: when its newest transaction happened, and its features by name."""

    time_us: int
    features: dict[str, float | None]


class OnlineMoved(StorageProblem):
    """Another follower has moved the view on, or it was emptied: look where it is, and go on."""


class OnlineStore:
    """The keys of one project of a Redis at `redis://user:password@host:6379/0`; may be used from any thread.

    Every call is tried three times, raises StorageProblem with what to do, and may be made again.
    """

    def __init__(self, url: str, project: str, timeout_s: float = 2.0) -> None:
        import redis  # an extra: it need not be there where no such view is
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        try:
            self._client: Any = redis.Redis.from_url(
                url, socket_timeout=timeout_s, socket_connect_timeout=timeout_s, retry=Retry(NoBackoff(), 0),
                decode_responses=False,
            )  # fmt: skip
        except ValueError as error:
            raise InvalidDefinition(
                f"SENTINEL_REDIS_URL: write redis://user:password@host:6379/0, or rediss:// for TLS ({error})"
            ) from None
        self.project, self._is_tls = project, url.startswith("rediss:")
        where = self._client.connection_pool.connection_kwargs
        self.name = f"Redis at {where.get('host', '')}:{where.get('port', '')}/{where.get('db') or 0}"
        self._newer_wins = self._client.register_script(NEWER_WINS.read_text())
        self._later_wins = self._client.register_script(_LATER_WINS)
        self._move = self._client.register_script(_MOVE)
        self.progress = f"sentinel:online:{project}"

    def close(self) -> None:
        """Release the connections."""
        self._client.close()

    def exercise(self) -> tuple[str, float]:
        """Write, read back and delete a key; the server's version, and the Unix time that it has."""
        name = f"sentinel:exercise:{self.project}:{time.time_ns()}"

        def ask() -> Any:
            with self._client.pipeline(transaction=True) as pipe:
                return pipe.set(name, "1", px=10_000).get(name).delete(name).info("server").time().execute()

        _, read, _, info, (seconds, us) = self._asked(ask)
        if read != b"1":
            raise StorageProblem(f"{self.name} did not give back what was written; see to its memory policy")
        return str(info.get("valkey_version") or info["redis_version"]), seconds + us / 1e6

    def position(self) -> OnlinePosition | None:
        """How far the view is; None where there is none."""
        found = self._asked(lambda: self._client.hgetall(self.progress))
        if not found:
            return None
        texts = {name.decode(): value.decode() for name, value in found.items()}
        return OnlinePosition(
            texts["log_id"], int(texts["position"]), texts["chain"], texts["state_id"], int(texts["at_us"])
        )

    def move(self, since: int | None, to: OnlinePosition) -> None:
        """Note how far it is now. Raises OnlineMoved unless it is at `since`, None where there is none yet."""
        values = [str(part) for item in to._asdict().items() for part in item]
        arguments = ["" if since is None else str(since), *values]
        if not self.run(self._move, [self.progress], arguments):
            now = self.position()
            if now == to:  # the answer to the first try was lost
                return
            raise OnlineMoved(f"the online view in {self.name} was emptied or moved by another follower")

    def write_features(
        self, view: str, names: Sequence[str], columns: Sequence[str], rows: Sequence[FeatureRow]
    ) -> int:
        """Write rows of a view, each where Redis has none that is newer; how many were written."""
        fields, written = [field_of(view, one) for one in columns], 0
        for n in range(0, len(rows), _KEYS_AT_ONCE):
            some = rows[n : n + _KEYS_AT_ONCE]
            keys = [entity_name(names, one.values, self.project) for one in some]
            head = ["1", moment_field(view), len(fields), *fields]
            arguments = [part for one in some for part in (encode_moment(one.time_us), one.expires_ms, *one.features)]
            written += self.run(self._newer_wins, keys, head + arguments)
        return written

    def write_profiles(self, group: str, rows: Sequence[ProfileRow]) -> None:
        """Write profiles, each where Redis has none of a later position."""
        for n in range(0, len(rows), _KEYS_AT_ONCE):
            some = rows[n : n + _KEYS_AT_ONCE]
            keys = [self.profile_name(group, one.key) for one in some]
            args = [part for one in some for part in (one.position, one.profile, one.expires_ms)]
            self.run(self._later_wins, keys, args)

    def features(
        self, view: str, names: Sequence[str], columns: Sequence[str], values: Sequence[str]
    ) -> KnownFeatures | None:
        """What stands there about a key; None where nothing does."""
        fields = [moment_field(view), *(field_of(view, one) for one in columns)]
        key = entity_name(names, values, self.project)
        moment, *found = self._asked(lambda: self._client.hmget(key, fields))
        if moment is None:
            return None
        return KnownFeatures(decode_moment(moment), dict(zip(columns, map(decode_value, found), strict=True)))

    def profile(self, group: str, key: int) -> tuple[int, bytes] | None:
        """The profile of a key, by its hash, and the position before which it is so; None where there is none."""
        name = self.profile_name(group, key)
        position, profile = self._asked(lambda: self._client.hmget(name, "position", "profile"))
        return None if profile is None else (int(position), profile)

    def clear(self, views: Sequence[Sequence[str]]) -> int:
        """Delete everything of the project, `views` by their fields; how many keys. The position goes first."""
        gone: int = self._asked(lambda: self._client.delete(self.progress))
        for names in views:
            pattern = _literally(entity_prefix(names)) + b"*" + _literally(self.project.encode())
            gone += self._delete(pattern, functools.partial(is_of_project, names=names, project=self.project))
        return gone + self._delete(f"sentinel:profile:{self.project}:*".encode(), lambda _: True)

    def _delete(self, pattern: bytes, is_ours: Callable[[bytes], bool]) -> int:
        gone, cursor = 0, 0
        while True:
            scan = functools.partial(self._client.scan, cursor, match=pattern, count=5_000)
            cursor, found = self._asked(scan)
            ours = [name for name in found if is_ours(name)]
            if ours:
                gone += self._asked(functools.partial(self._client.unlink, *ours))
            if cursor == 0:
                return gone

    def profile_name(self, group: str, key: int) -> str:
        """The name in Redis of the profile of a key."""
        return f"sentinel:profile:{self.project}:{group}:{key:016x}"

    def script(self, text: str) -> Any:
        """A script that this server runs, for `run`."""
        return self._client.register_script(text)

    def run(self, script: Any, keys: Sequence[Any], arguments: Sequence[Any], until_s: float | None = None) -> Any:
        """What a script answers; no try begins after `until_s` of the monotonic clock."""
        return self._asked(lambda: script(keys=keys, args=arguments), until_s)

    def memory_policy(self) -> str | None:
        """What the server deletes when its memory is full; None where it has no limit."""
        info = self._asked(lambda: self._client.info("memory"))
        return str(info["maxmemory_policy"]) if info.get("maxmemory") else None

    def _asked(self, call: Callable[[], _T], until_s: float | None = None) -> _T:
        from redis import exceptions

        with self._naming_faults():
            faults = (exceptions.ConnectionError, exceptions.TimeoutError)
            return retried(call, faults, time.monotonic() + _AGAIN_WITHIN_S if until_s is None else until_s)

    @contextlib.contextmanager
    def _naming_faults(self) -> Iterator[None]:
        from redis import exceptions

        try:
            yield
        except (exceptions.RedisError, OSError) as error:
            said = " ".join(str(error).split())[:300]
            raise StorageProblem(f"{self.name}: {said}; {_advice(error, is_tls=self._is_tls)}") from None


def _advice(error: Exception, *, is_tls: bool) -> str:
    from redis import exceptions

    said = str(error)
    if isinstance(error, exceptions.AuthenticationError) or said.startswith(("NOAUTH", "WRONGPASS")):
        return "look at the user and the password in SENTINEL_REDIS_URL"
    if said.startswith("NOPERM") or isinstance(error, exceptions.NoPermissionError):
        return "its user needs hashes, scripts, SCAN and UNLINK: give it these with ACL SETUSER"
    if "certificate" in said or "SSL" in said or (is_tls and isinstance(error, exceptions.TimeoutError)):
        return "rediss:// needs a server with TLS whose certificate is trusted here (ssl_ca_certs=..)"
    if said.startswith(("OOM", "MISCONF", "READONLY")):
        return "see to its memory, its disk, or that it is no replica"
    return "see that it runs and can be reached"


def _literally(text: bytes) -> bytes:
    """A pattern of Redis that fits this text alone."""
    return b"".join(b"\\" + bytes((one,)) if one in b"*?[]\\^" else bytes((one,)) for one in text)
