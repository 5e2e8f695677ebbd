"""References from outside: what is opened, and what is refused."""

import os
import socket
from pathlib import Path

import pytest

from connectors.errors import Poison, Reason
from connectors.files.openat import open_file
from connectors.media.bytes import BytesMedia
from connectors.media.file import FileMedia
from connectors.media.reference import open_reference
from connectors.source_route import confirm_unchanged
from testing.open_files import open_files

MAX_BYTES = 1000


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return an allowed folder with a clip, a secret outside of it, and ways that seem to lead there."""
    root = tmp_path / "root"
    (root / "a" / "b").mkdir(parents=True)
    (tmp_path / "rootsecret").mkdir()
    secret = tmp_path / "rootsecret" / "secret.mp4"
    secret.write_bytes(b"secret")
    for name in ("a/clip.mp4", "a/b/50%.mp4", "a/b/two words.mp4", "a/b/\u65e5.mp4", "a/b/c:d.mp4"):
        (root / name).write_bytes(b"clip")
    (root / "link.mp4").symlink_to(secret)
    (root / "inner.mp4").symlink_to("a/clip.mp4")
    (root / "folder").symlink_to(tmp_path / "rootsecret")
    (root / "a" / "up").symlink_to("..")
    (root / "empty.mp4").write_bytes(b"")
    (root / "large.mp4").write_bytes(b"x" * (MAX_BYTES + 1))
    os.mkfifo(root / "pipe.mp4")
    with socket.socket(socket.AF_UNIX) as listener:
        here = os.open(root, os.O_RDONLY)
        try:
            listener.bind(f"/proc/self/fd/{here}/socket.mp4")
        finally:
            os.close(here)
    return root


def read(uri: str, *roots: Path) -> bytes:
    media = open_reference(uri, "topic/0/1", roots=roots, max_clip_bytes=MAX_BYTES)
    assert media.name == "topic/0/1"
    with os.fdopen(media.open(), "rb") as file:
        return file.read()


ACCEPTED = [
    "a/clip.mp4",
    "./a/clip.mp4",
    "a//clip.mp4",
    "a/./clip.mp4",
    "a/b/50%.mp4",
    "a/b/two words.mp4",
    "a/b/\u65e5.mp4",
    "a/b/c:d.mp4",
    "{root}/a/clip.mp4",
    "file:{root}/a/clip.mp4",
    "file://{root}/a/clip.mp4",
    "file://localhost{root}/a/clip.mp4",
    "FILE://{root}/a/clip.mp4",
    "file://{root}/a/b/two%20words.mp4",
    "file://{root}/a/b/%E6%97%A5.mp4",
    "file://{root}/a/b/50%25.mp4",
]

FORBIDDEN = [
    "../rootsecret/secret.mp4",
    "a/../../rootsecret/secret.mp4",
    "a/b/../clip.mp4",
    "{root}/../rootsecret/secret.mp4",
    "{root}secret/secret.mp4",
    "file://{root}/../rootsecret/secret.mp4",
    "file://{root}/%2e%2e/rootsecret/secret.mp4",
    "file://{root}/a%2Fclip.mp4",
    "file://{root}/a%252Fclip.mp4",
    "file://{root}/%252e%252e/rootsecret/secret.mp4",
    "file://{root}/..;/rootsecret/secret.mp4",
    "file://{root}/..%3b/rootsecret/secret.mp4",
    "file://{root}/..%5crootsecret/secret.mp4",
    "file://{root}/..%255crootsecret/secret.mp4",
    "{root}/..;/rootsecret/secret.mp4",
    "..;a=b/rootsecret/secret.mp4",
    "a/..\\..\\rootsecret/secret.mp4",
    "file://{root}/a/clip.mp4%00.txt",
    "file://{root}/a/clip.mp4?x=1",
    "file://{root}/a/clip.mp4#t=1",
    "file://{root}/a/%zz.mp4",
    "file://{root}/a/%ff.mp4",
    "file://{root}/a/%0aclip.mp4",
    "file://example.org{root}/a/clip.mp4",
    "file:a/clip.mp4",
    "file:////{root}/a/clip.mp4",
    "//example.org/a/clip.mp4",
    "/etc/passwd",
    "/proc/self/environ",
    "http://127.0.0.1/clip.mp4",
    "https://example.org/clip.mp4",
    "concat:a/clip.mp4|/etc/passwd",
    "subfile,,start,0,end,0,,:/etc/passwd",
    "data:video/mp4;base64,AAAA",
    "pipe:0",
    "tcp://127.0.0.1:1",
    "s3://bucket/clip.mp4",
    "a/clip.mp4\0.txt",
    "a/clip\n.mp4",
    "a/\ud800.mp4",
    "",
    ".",
    "/",
    "a/",
    "a/clip.mp4/.",
    "a" * 5000,
    "a" * 300,
    "link.mp4",
    "inner.mp4",
    "folder/secret.mp4",
    "a/up/a/clip.mp4",
    "a/clip.mp4/inside.mp4",
    "pipe.mp4",
    "socket.mp4",
    "a",
]

OTHERWISE = {"missing.mp4": Reason.VANISHED, "empty.mp4": Reason.EMPTY, "large.mp4": Reason.TOO_LARGE}


@pytest.mark.parametrize("uri", ACCEPTED)
def test_accepted(root: Path, uri: str) -> None:
    assert read(uri.replace("{root}", str(root)), root) == b"clip"


@pytest.mark.parametrize("uri", FORBIDDEN)
def test_forbidden(root: Path, uri: str) -> None:
    with pytest.raises(Poison) as refused:
        read(uri.replace("{root}", str(root)), root)

    assert refused.value.reason == Reason.FORBIDDEN_PATH
    assert str(root) not in refused.value.detail
    assert "\n" not in refused.value.detail


@pytest.mark.parametrize("uri", OTHERWISE)
def test_refused_for_what_it_is(root: Path, uri: str) -> None:
    with pytest.raises(Poison) as refused:
        read(uri, root)

    assert refused.value.reason == OTHERWISE[uri]


def test_no_root_allows_nothing(root: Path) -> None:
    with pytest.raises(Poison, match="roots is empty"):
        read(f"{root}/a/clip.mp4")


def test_every_root_is_looked_at(root: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "only.mp4").write_bytes(b"here")

    assert read("only.mp4", root, other) == b"here"


def test_a_root_may_be_reached_through_a_link(root: Path, tmp_path: Path) -> None:
    (tmp_path / "way").symlink_to(root)

    assert read(f"{tmp_path}/way/a/clip.mp4", tmp_path / "way") == b"clip"


def test_a_folder_swapped_for_a_link_is_refused(root: Path, tmp_path: Path) -> None:
    media = open_reference("a/clip.mp4", "n", roots=[root], max_clip_bytes=MAX_BYTES)
    (root / "a").rename(tmp_path / "moved")
    (root / "a").symlink_to(tmp_path / "moved")

    with pytest.raises(Poison) as refused:
        media.open()
    assert refused.value.reason == Reason.FORBIDDEN_PATH


def test_a_file_that_changes_is_refused(root: Path) -> None:
    media = FileMedia.received(root, ("a", "clip.mp4"), MAX_BYTES)
    media.verify()
    with (root / "a/clip.mp4").open("ab") as file:
        file.write(b"more")

    for check in (media.verify, media.open):
        with pytest.raises(Poison) as refused:
            check()
        assert refused.value.reason == Reason.CHANGED


def test_a_file_that_is_written_over_in_place_is_refused(root: Path) -> None:
    media = FileMedia.received(root, ("a", "clip.mp4"), MAX_BYTES)
    (root / "a/clip.mp4").write_bytes(b"CLIP")
    os.utime(root / "a/clip.mp4", ns=(1, 1))

    with pytest.raises(Poison, match="changed in place"):
        media.verify()


def test_a_file_that_goes_away_is_refused(root: Path) -> None:
    media = FileMedia.received(root, ("a", "clip.mp4"), MAX_BYTES)
    (root / "a/clip.mp4").unlink()

    for check in (media.verify, media.open):
        with pytest.raises(Poison) as refused:
            check()
        assert refused.value.reason == Reason.VANISHED


def test_descriptors_are_for_reading_and_closed_on_exec(root: Path) -> None:
    descriptor, _ = open_file(root, ("a", "clip.mp4"))

    assert not os.get_inheritable(descriptor)
    assert os.get_blocking(descriptor)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.write(descriptor, b"x")
    os.close(descriptor)


def test_refusals_leave_no_descriptor_open(root: Path) -> None:
    before = open_files()
    for uri in ("link.mp4", "large.mp4", "pipe.mp4", "folder/secret.mp4", "missing.mp4"):
        with pytest.raises(Poison):
            read(uri, root)

    assert open_files() == before


def test_bytes_are_sealed_and_opened_anew() -> None:
    media = BytesMedia("clip", [b"ab", b"", b"cd"])
    first, second = media.open(), media.open()

    assert media.size_bytes == 4
    assert os.read(first, 2) == b"ab"
    assert os.read(second, 9) == b"abcd"
    for change in (lambda: os.write(first, b"x"), lambda: os.open(f"/proc/self/fd/{first}", os.O_RDWR | os.O_TRUNC)):
        with pytest.raises(OSError):  # noqa: PT011
            change()
    media.close()
    media.close()
    assert os.pread(second, 4, 0) == b"abcd"
    os.close(first)
    os.close(second)
    with pytest.raises(ValueError, match="closed"):
        media.open()


async def test_only_media_that_can_change_are_looked_at_again() -> None:
    from tests.contract.progress import done
    from tests.contract.sink_contract import delivery_of

    await confirm_unchanged(done(delivery_of("a")))
