"""Signatures of bundles: whoever trains signs the manifest, and whoever serves knows the public keys it trusts.

Ed25519. A private key is a PEM file; a file of trusted keys has a line `ed25519 <64 hexadecimal digits> <comment>` for
each of them. The manifest names the hashes of all other files, so one signature covers the bundle.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from sentinel.durable import create_durably
from sentinel.errors import BundleProblem, InvalidDefinition, StorageProblem
from sentinel.model.registry import TrustedKeys
from sentinel.model.regular_file import read_regular

SIGNATURE_FILE = "manifest.sig"
MOST_BYTES = 4096
Sign: TypeAlias = Callable[[bytes], bytes]
"""Makes the content of a signature file from that of a manifest."""

_PURPOSE = b"sentinel bundle manifest 1\n"  # no signature made for anything else fits
_MOST_KEY_BYTES = 1 << 20


class Signature(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`manifest.sig`: who signed the manifest, and the signature, both in hexadecimal digits."""

    public_key: str
    signature: str


_decode = msgspec.json.Decoder(Signature).decode


def make_key_pair(path: Path) -> tuple[Path, str]:
    """Write a new private key to `path`, readable by its owner only, and its public line to `path`.pub beside it.

    Returns where the line is, and the line. Raises InvalidDefinition when one of the files is there already.
    """
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    public, line = path.with_name(f"{path.name}.pub"), f"ed25519 {_raw(key.public_key()).hex()} {path.stem}"
    try:
        create_durably(public, f"{line}\n".encode(), 0o644)  # first: nobody can sign with it, whatever comes next
        try:
            create_durably(path, private, 0o600)
        except OSError:
            public.unlink()
            raise
    except OSError as error:
        name = public if str(error.filename2) == str(public) else path
        raise InvalidDefinition(f"{name} cannot be written: {error.strerror}; no key is replaced") from error
    return public, line


def signer(path: Path | None) -> Sign | None:
    """What signs with the private key of a file; None without one. Raises InvalidDefinition."""
    if path is None:
        return None
    try:
        key = load_pem_private_key(_read(path, "signing_key_file"), password=None)
    except (ValueError, TypeError) as error:
        raise InvalidDefinition(f"signing_key_file: {path} has no private key in PEM without a password") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise InvalidDefinition(f"signing_key_file: {path} has another key than one of Ed25519")
    public = _raw(key.public_key()).hex()

    def sign(manifest: bytes) -> bytes:
        return msgspec.json.encode(Signature(public, key.sign(_PURPOSE + manifest).hex()))

    return sign


def read_trusted_keys(path: Path | None) -> TrustedKeys:
    """The keys of a file, at least one; none without a file. Raises InvalidDefinition."""
    if path is None:
        return frozenset()
    keys = set()
    for n, line in enumerate(_read(path, "trusted_keys_file").decode(errors="replace").splitlines(), 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        key = _hexadecimal(words[1], 32) if len(words) > 1 and words[0] == "ed25519" else None
        if key is None:
            raise InvalidDefinition(f"trusted_keys_file: line {n} of {path} is no `ed25519 <64 hexadecimal digits>`")
        keys.add(key)
    if not keys:
        raise InvalidDefinition(f"trusted_keys_file: {path} has no key, so no model could be trusted; add one")
    return frozenset(keys)


def check_signed(folder: Path, manifest: bytes, trusted: TrustedKeys) -> None:
    """Raise BundleProblem unless one of the trusted keys has signed the manifest of the bundle in a folder."""
    path = folder / SIGNATURE_FILE
    try:
        found = _decode(read_regular(path, MOST_BYTES))
    except FileNotFoundError:
        raise BundleProblem(f"{folder} is not signed, and trusted_keys_file is set; sign it or train anew") from None
    except (OSError, StorageProblem, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BundleProblem(f"the signature {path} cannot be read: {error}") from error
    public, signature = _hexadecimal(found.public_key, 32), _hexadecimal(found.signature, 64)
    if public is None or public not in trusted:
        raise BundleProblem(f"{folder} is signed by {found.public_key[:64]!r}, which is not among the trusted keys")
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature or b"", _PURPOSE + manifest)
    except InvalidSignature:
        raise BundleProblem(f"the signature {path} is not of this manifest; restore both or train anew") from None


def _raw(key: Ed25519PublicKey) -> bytes:
    return key.public_bytes(Encoding.Raw, PublicFormat.Raw)


def _hexadecimal(text: str, length: int) -> bytes | None:
    try:
        raw = bytes.fromhex(text)
    except ValueError:
        return None
    return raw if len(raw) == length else None


def _read(path: Path, setting: str) -> bytes:
    try:
        return read_regular(path.resolve(), _MOST_KEY_BYTES)  # where secrets are mounted they are links
    except (OSError, StorageProblem) as error:
        raise InvalidDefinition(f"{setting}: {path} cannot be read: {error}") from error
