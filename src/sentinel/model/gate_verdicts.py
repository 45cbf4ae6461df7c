"""The record of the gate: which model met which policy, and how that ended. Promotion looks it up.

A verdict is about the very manifest and the very policy: whoever trains anew under the same name, copies another model
there, or changes a demand needs another one. The newest about a pair counts, so that a pass can be lost; one that no
row was measured for takes nothing back that was found on rows.
"""

from pathlib import Path
from typing import Literal, TypeAlias

import msgspec

from sentinel.durable import append_durably, make_folder
from sentinel.errors import DeploymentRefused, InvalidDefinition, StorageProblem
from sentinel.model.regular_file import read_regular
from sentinel.policy.promotion_policy import FILE as POLICY_FILE
from sentinel.policy.promotion_policy import PromotionPolicy, read_policy

RECORD_FILE = "gate.jsonl"
Gate: TypeAlias = Literal["register", "promote"]
_MOST_RECORD = 64 << 20


class Verdict(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How a model met a policy at one of the two gates: `failures`, and what was `missing` to know; none at a pass.

    `champion` is the one that it was compared with, if it was with any. `measured_on` says which rows, of the history
    with the fingerprint `data_sha256`; both are None where the figures of the manifest were enough.
    """

    version: str
    manifest_sha256: str
    policy_sha256: str
    gate: Gate
    at: str
    failures: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    champion: str | None = None
    measured_on: str | None = None
    data_sha256: str | None = None

    @property
    def passed(self) -> bool:
        """Whether nothing failed and nothing was missing."""
        return not self.failures and not self.missing


_decode = msgspec.json.Decoder(Verdict).decode


class GateVerdicts:
    """The file `gate.jsonl` of a home folder, to which a line is only ever added."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._path = home / RECORD_FILE

    def note(self, verdict: Verdict) -> None:
        """Keep a verdict, durably. Raises OSError."""
        make_folder(self._home)
        append_durably(self._path, msgspec.json.encode(verdict), 0o644)

    def newest(self, manifest_sha256: str, policy: PromotionPolicy, gate: Gate) -> Verdict | None:
        """The verdict about a manifest, a policy and a gate that counts, which is the newest.

        A pass by the figures of the manifest alone takes nothing back that was found on rows. Raises StorageProblem
        where the record cannot be read.
        """
        wanted = (manifest_sha256, policy.sha256, gate)
        found = [one for one in self._all() if (one.manifest_sha256, one.policy_sha256, one.gate) == wanted]
        if not found:
            return None
        newest, on_rows = found[-1], [one for one in found if one.measured_on is not None]
        if newest.passed and newest.measured_on is None and on_rows:
            return on_rows[-1]
        return newest

    def _all(self) -> list[Verdict]:
        """Every line that can be read; another one vouches for nothing."""
        try:
            raw = read_regular(self._path, _MOST_RECORD)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise StorageProblem(f"{self._path} cannot be read: {error}") from error
        found = []
        for line in raw.splitlines():
            try:
                found.append(_decode(line))
            except (msgspec.MsgspecError, UnicodeDecodeError):
                continue
        return found


def policy_in(home: Path) -> PromotionPolicy | None:
    """The policy of a home folder, or None where there is none. Raises InvalidDefinition for one that is unreadable."""
    path = home / POLICY_FILE
    try:
        return read_policy(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InvalidDefinition(f"{path} cannot be read: {error}") from error


def check_may_promote(home: Path, version: str, manifest_sha256: str, champion: str | None) -> None:
    """Raise DeploymentRefused for a model that has not passed the policy of a home folder, if that has one.

    A pass that compared it with a champion counts while that is the champion.
    """
    try:
        policy = policy_in(home)
    except InvalidDefinition as error:
        raise DeploymentRefused(f"{error}; nothing can be promoted by it") from error
    if policy is None:
        return
    verdict = GateVerdicts(home).newest(manifest_sha256, policy, "promote")
    why = _why_not(verdict, champion)
    if why is not None:
        raise DeploymentRefused(
            f"{version} {why} of {POLICY_FILE}: run `sentinel models gate {version} --data FILE`, or promote it "
            "all the same with --force --reason TEXT"
        )


def _why_not(verdict: Verdict | None, champion: str | None) -> str | None:
    """What keeps a verdict from being a pass now, or None."""
    if verdict is None:
        return "has not been through the gate"
    if not verdict.passed:
        return f"did not pass the gate ({'; '.join((*verdict.failures, *verdict.missing))[:300]})"
    if verdict.champion not in (None, champion):
        return f"was compared with {verdict.champion}, which is no longer the champion, at the gate"
    return None
