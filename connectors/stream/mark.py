"""A mark of what a recorder was told, by which a later daemon knows whether that is still what is wanted.

It is a salted digest: the URL may hold a password, and nobody reads one from it.
"""

import hashlib
import json
import secrets
from collections.abc import Mapping
from typing import Any

_ROUNDS = 50_000
_LASTING = ("url", "transport", "segment_s", "silence_s", "max_bytes", "ssl_verify", "ssl_cafile")


def mark_of(request: Mapping[str, Any], salt: bytes | None = None) -> str:
    """Return a request's mark, with the salt in front; the same salt gives the same mark."""
    salt = secrets.token_bytes(16) if salt is None else salt
    told = json.dumps([request[name] for name in _LASTING]).encode()
    return f"{salt.hex()}:{hashlib.pbkdf2_hmac('sha256', told, salt, _ROUNDS).hex()}"
