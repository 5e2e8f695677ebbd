"""The key that an installation signs its replays with, so that no sender can say where a clip goes on.

A signature is an HMAC-SHA256 over what the replay says, the record's place of origin, and its key and value: it can't
be put on another record. The key lies in ``state_dir/replay.key``, or where systemd puts the credential of that name.
It is made at its first use; installations that replay for each other share the file.
"""

import hashlib
import hmac
import json
import logging
import os
import secrets
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from connectors.errors import ConfigurationError

log = logging.getLogger(__name__)

NAME = "replay.key"
SIGNATURE = "signature"
SIGNED = ("clip_id", "first_window", "plan_hash", "count", "topic", "partition", "offset")
_KEY_BYTES, _MIN_KEY_BYTES, _MAX_KEY_BYTES = 32, 16, 4096


class ReplayKey:
    """Signs, and knows its own signatures."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    @classmethod
    def load(cls, state_dir: Path) -> "ReplayKey":
        """Return the installation's key; :class:`ConfigurationError` where it can neither be read nor made."""
        credentials = os.environ.get("CREDENTIALS_DIRECTORY")
        if credentials and (Path(credentials) / NAME).exists():
            return cls(_read(Path(credentials) / NAME))
        path = state_dir / NAME
        try:
            if not path.exists():
                _make(path)
            return cls(_read(path))
        except OSError as error:
            raise ConfigurationError(f"{path} can't be used: {error.strerror}", path="state_dir") from error

    def sign(self, said: Mapping[str, str], key: bytes | None, value: bytes | None) -> str:
        """Return the signature of what a replay says about a record."""
        digests = [None if part is None else hashlib.sha256(part).hexdigest() for part in (key, value)]
        message = json.dumps([1, *(said.get(name, "") for name in SIGNED), *digests]).encode()
        return hmac.new(self._key, message, hashlib.sha256).hexdigest()

    def knows(self, said: Mapping[str, str], key: bytes | None, value: bytes | None) -> bool:
        """Whether what a record says of its replay was signed with this key."""
        given = said.get(SIGNATURE, "")
        return bool(given) and hmac.compare_digest(given.encode(), self.sign(said, key, value).encode())


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        key = file.read(_MAX_KEY_BYTES).strip()
    if len(key) < _MIN_KEY_BYTES:
        raise ConfigurationError(f"{path} holds fewer than {_MIN_KEY_BYTES} bytes: remove it", path="state_dir")
    return key


def _make(path: Path) -> None:
    """Make the key, whole or not at all, for whoever owns the folder: a replay may be called as another user."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{NAME}.{secrets.token_hex(4)}")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, secrets.token_hex(_KEY_BYTES).encode() + b"\n")
        os.fsync(descriptor)
        if os.geteuid() == 0:
            owner = path.parent.stat()
            os.fchown(descriptor, owner.st_uid, owner.st_gid)
        with suppress(FileExistsError):  # another program was quicker: its key counts
            os.link(beside, path)
            log.info("Made %s, which replays are signed with.", path)
    finally:
        os.close(descriptor)
        beside.unlink()
