"""The objects beneath a place, in the order of their names, from a name on: one page or one folder is held at a time.

S3 lists in that order itself, from a name on, so going on costs no more than a page. Of other stores the folders are
listed one by one, and those that lie wholly before the name are passed over.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from connectors.errors import ConfigurationError

_PAGE = 1000  # S3's own limit
_MODIFIED = ("LastModified", "last_modified", "mtime", "updated", "modified")
_TAGS = ("ETag", "etag", "md5Hash", "content_md5")


@dataclass(frozen=True, slots=True)
class Listed:
    """An object: how a reference names it, and how it is called beneath the place."""

    uri: str
    name: str
    size_bytes: int | None
    modified: datetime | None
    tag: str


class Store:
    """A place in a store that fsspec knows, or a folder of this machine."""

    def __init__(self, location: str) -> None:
        scheme = urlsplit(location).scheme if "://" in location else ""
        if "::" in location:
            raise ConfigurationError(f"{location!r} is a chain of stores", path="LOCATION")
        self.is_local = scheme in ("", "file", "local")
        self.uri = str(Path(location.partition("://")[2] or location).absolute()) if self.is_local else location
        self.uri = self.uri.rstrip("/") + "/"
        self._files, self._root = _open(self.uri if not self.is_local else f"file://{self.uri}")

    def objects(self, after: str = "") -> Iterator[Listed]:
        """Yield the objects behind the name ``after``, in the order of names as bytes of UTF-8."""
        if hasattr(self._files, "call_s3"):
            return self._pages(after)
        return self._walk(self._root, "", after.encode(errors="surrogateescape"))

    def _pages(self, after: str) -> Iterator[Listed]:
        bucket, _, prefix = self._root.partition("/")
        prefix = f"{prefix.rstrip('/')}/" if prefix else ""
        asked = {"Bucket": bucket, "Prefix": prefix, "MaxKeys": _PAGE}
        if after:
            asked["StartAfter"] = prefix + after
        while True:
            page: Mapping[str, Any] = self._files.call_s3("list_objects_v2", **asked)
            for entry in page.get("Contents", ()):
                key = str(entry["Key"])
                if not key.endswith("/"):
                    yield _listed(f"s3://{bucket}/{key}", key.removeprefix(prefix), {"size": entry["Size"], **entry})
            if not page.get("IsTruncated"):
                return
            asked["ContinuationToken"] = page["NextContinuationToken"]

    def _walk(self, folder: str, above: str, after: bytes) -> Iterator[Listed]:
        entries = []
        for entry in self._files.ls(folder, detail=True):
            path = str(entry["name"]).rstrip("/")
            last = path.rpartition("/")[2]
            is_itself = path == folder.rstrip("/")
            if not is_itself and not entry.get("islink"):
                name = above + last + ("/" if entry["type"] == "directory" else "")
                entries.append((name.encode(errors="surrogateescape"), name, path, entry))
        for key, name, path, entry in sorted(entries, key=lambda one: one[0]):
            if name.endswith("/"):
                if key > after or after.startswith(key):
                    yield from self._walk(path, name, after)
            elif key > after:
                yield _listed(path if self.is_local else self._files.unstrip_protocol(path), name, entry)


def _open(location: str) -> tuple[Any, str]:
    import fsspec

    try:
        files, root = fsspec.core.url_to_fs(location, skip_instance_cache=True, use_listings_cache=False)
    except (ImportError, ValueError) as error:
        raise ConfigurationError(f"{location!r} can't be listed: {error}", path="LOCATION") from error
    return files, str(root)


def _listed(uri: str, name: str, entry: Mapping[str, Any]) -> Listed:
    modified = next((entry[key] for key in _MODIFIED if entry.get(key) is not None), None)
    tag = next((str(entry[key]) for key in _TAGS if entry.get(key)), "")
    return Listed(uri, name, entry.get("size"), _time(modified), tag)


def _time(said: Any) -> datetime | None:
    if isinstance(said, int | float):
        return datetime.fromtimestamp(said, UTC)
    if isinstance(said, str):
        try:
            said = datetime.fromisoformat(said)
        except ValueError:
            return None
    if not isinstance(said, datetime):
        return None
    return said if said.tzinfo is not None else said.replace(tzinfo=UTC)
