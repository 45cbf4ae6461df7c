"""The certificate."""

import msgspec


class Certificate(msgspec.Struct, frozen=True):
    """Placeholder until the helper delivers."""

    rows: int = 0
