"""The media that records name, looked up by name in one folder or tar archive."""

import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from connectors.errors import ConfigurationError, Poison, Reason, Transient
from connectors.media.file import FileMedia
from connectors.media.protocols import Media
from connectors.media.refused import RefusedMedia
from connectors.media.spool import Spool
from connectors.media.tar_member import MemberMedia, TarMember, tar_members

_SPOOL_BYTES = 2**29


@dataclass
class MediaShelf:
    """The media that records name, in a folder or in a tar archive, which is read member by member.

    Members are copied into ``spool`` while they are used.
    """

    base: Path
    max_clip_bytes: int
    key: str = "inference.media_base_path"  # what the user calls it
    spool: Spool = field(default_factory=lambda: Spool(Path(tempfile.gettempdir()), _SPOOL_BYTES))
    _members: dict[str, TarMember] = field(default_factory=dict)
    _open: ExitStack = field(default_factory=ExitStack)

    def open(self) -> None:
        """Look at the folder, or at the archive's names; :class:`ConfigurationError` where there is neither."""
        if self.base.is_dir():
            return
        if not self.base.is_file():
            raise ConfigurationError(f"{self.base} is neither a folder nor a tar", path=self.key)
        archive = self._open.enter_context(self.base.open("rb"))
        try:
            for member in tar_members(archive, max_clip_bytes=self.max_clip_bytes):
                self._members.setdefault(member.name, member)
        except Poison as fault:
            self._open.close()
            raise ConfigurationError(f"{self.base}: {fault.detail}", path=self.key) from fault

    def close(self) -> None:
        """Close the archive."""
        self._open.close()

    @property
    def is_archive(self) -> bool:
        """Whether the media are members of an archive."""
        return not self.base.is_dir()

    def media(self, name: str) -> Media:
        """Return the media of that name; what can't be had says why when it is opened.

        A name never leads out of the folder; links inside it are the folder's owner's, and are followed.
        """
        pure = PurePosixPath(name)
        if pure.is_absolute() or ".." in pure.parts or not pure.parts or "\0" in name:
            return _refused(name, Poison(Reason.FORBIDDEN_PATH, f"{name!r} leads out of the media's folder"))
        if self._members or self.is_archive:
            member = self._members.get(pure.as_posix())
            if member is None:
                return _refused(name, Poison(Reason.VANISHED, f"the archive holds no {name}"))
            return MemberMedia(member, self.spool)
        place = (self.base / pure).resolve()
        try:
            return FileMedia.received(place.parent, (place.name,), self.max_clip_bytes, name)
        except (Poison, Transient) as fault:
            return _refused(name, fault)


def _refused(name: str, fault: Poison | Transient) -> RefusedMedia:
    fault.origin = "source"
    return RefusedMedia(name, fault)
