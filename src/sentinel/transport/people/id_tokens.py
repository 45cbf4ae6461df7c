"""ID tokens: what is said in them counts where a key of the provider has signed it (RFC 7515, 7517, 7519)."""

from typing import Any

from joserfc import jwk, jwt
from joserfc.errors import JoseError

_ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "Ed25519", "EdDSA")
"""Signatures by a key that the provider alone has: `none`, and a secret that we know too, prove nothing."""


def claims_of(token: str, keys: Any) -> dict[str, Any]:
    """What a token says, by the keys of a provider (a JWK set). Raises ValueError where none of them has signed it."""
    try:
        return jwt.decode(token, jwk.KeySet.import_key_set(keys), algorithms=_ALGORITHMS).claims
    except (JoseError, ValueError, KeyError, TypeError) as error:
        raise ValueError(type(error).__name__) from None
