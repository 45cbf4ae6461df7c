"""How a shadow runs: shared by the process itself and by what watches over it."""

from typing import Annotated

import msgspec

_Positive = Annotated[float, msgspec.Meta(gt=0.0)]
_Count = Annotated[int, msgspec.Meta(ge=1)]


class ShadowSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What an operator may change; seconds end in `_s`.

    - `max_lag`: events it may be behind; older ones only change its features and are counted as dropped.
    - `keep_scores`: the newest scores that are kept, of all shadows of this home; older ones make room for new ones.
    - `poll_s`: pause before it looks for news again.
    - `hang_after_s`: silence after which it is killed; until its first sign of life it is `start_s`.
    - `trusted_keys_file`: public keys, one of which has to have signed the model; none to ask for no signature.
    - `first_wait_s`, `longest_wait_s`: pause before a restart, doubled after every early death.
    """

    max_lag: _Count = 20_000
    keep_scores: _Count = 5_000_000
    poll_s: _Positive = 0.1
    hang_after_s: _Positive = 10.0
    start_s: _Positive = 120.0
    trusted_keys_file: str | None = None
    first_wait_s: _Positive = 1.0
    longest_wait_s: _Positive = 60.0
