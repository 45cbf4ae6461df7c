"""The signature of a webhook: who receives it can tell that it is ours, whole, and of now."""

import hashlib
import hmac

HEADER = "Sentinel-Signature"


def signature(secret: str, now_s: int, body: bytes) -> str:
    """The value of the header: `t=<Unix seconds>,v1=<HMAC-SHA256 of "<t>.<body>" in hexadecimal>`.

    >>> signature("a secret of thirty-two characters", 1_700_000_000, b"{}")[:16]
    't=1700000000,v1='
    """
    digest = hmac.new(secret.encode(), b"%d." % now_s + body, hashlib.sha256).hexdigest()
    return f"t={now_s},v1={digest}"
