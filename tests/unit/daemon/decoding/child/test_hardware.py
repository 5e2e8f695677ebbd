"""Decoding on a graphics card: what cards take, a card that gives up, and the cage that lets the driver be."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from connectors.errors import ConfigurationError
from daemon.config.file import settings_from
from daemon.decoding.child.cage import seccomp
from daemon.decoding.child.frame_writer import AvWriter
from daemon.decoding.child.hardware import device_files, is_decoded
from daemon.decoding.child.pyav import device_fault, open_video
from daemon.decoding.child.session import plan
from daemon.decoding.child.stream import opened as opened_module
from daemon.decoding.media import MediaLimits
from daemon.frame_look import Look
from testing.repository import ROOT
from tests.corpus.clips import Recipe, make
from tests.corpus.painted import HEIGHT, WIDTH, read

LIMITS = MediaLimits(8_912_896, 86_400.0)
without_a_card = pytest.mark.skipif(bool(device_files()), reason="this machine has a graphics card")


@pytest.fixture
def clip(tmp_path: Path) -> Iterator[int]:
    descriptor = os.open(make(tmp_path / "clip", Recipe(frames=60)).path, os.O_RDONLY)
    yield descriptor
    os.close(descriptor)


class _GivesUp:
    """A decoder that gives nothing any more after some packets, as a card does that was lost."""

    def __init__(self, decoder: Any, packets: int) -> None:
        object.__setattr__(self, "_decoder", decoder)
        object.__setattr__(self, "_left", packets)

    def decode(self, packet: Any) -> list[Any]:
        object.__setattr__(self, "_left", self._left - 1)
        return self._decoder.decode(packet) if self._left > 0 else []  # type: ignore[no-any-return]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._decoder, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._decoder, name, value)


def test_a_card_that_gives_up_leaves_the_clip_to_the_processor(clip: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A decoder of PyAV's own stands in for the card's."""
    start, of_the_card = opened_module.start_decoder, list[Any]()

    def open_on_device(descriptor: int, limits: MediaLimits, _: Any) -> tuple[Any, Any]:
        opened = open_video(descriptor, limits)
        of_the_card.append(opened[0])
        return opened

    def start_decoder(container: Any, *rest: Any) -> Any:
        decoder = start(container, *rest)
        return _GivesUp(decoder, 20) if any(container is one for one in of_the_card) else decoder

    monkeypatch.setattr(opened_module, "open_on_device", open_on_device)
    monkeypatch.setattr(opened_module, "start_decoder", start_decoder)
    index = plan(clip, LIMITS, lambda: None)[1]
    writer = AvWriter(clip, index, LIMITS, Look(), on_device=True)
    out = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    assert writer.on_device

    shown = []
    for frame_index in range(0, 60, 5):
        assert writer.write(frame_index, out) == frame_index
        shown.append(read(out))

    assert shown == list(range(0, 60, 5))
    assert not writer.on_device
    writer.close()


@without_a_card
def test_the_reason_is_said() -> None:
    assert device_fault() != ""


@pytest.mark.parametrize(
    ("codec", "pixel_format", "expected"),
    [
        ("h264", "yuv420p", True),
        ("h264", "yuv420p10le", False),  # cards take ten bits of newer codecs alone
        ("h264", "yuv422p", False),
        ("hevc", "yuv420p10le", True),
        ("vp9", "yuv420p", True),
        ("prores", "yuv422p10le", False),
        ("h264", None, False),
    ],
)
def test_codecs_and_depths_that_cards_take(codec: str, pixel_format: str | None, expected: bool) -> None:
    assert is_decoded(codec, pixel_format) is expected


DEVICES = """
import os, fcntl, errno
from daemon.decoding.child import fork_server
from daemon.decoding.child.cage import sandbox
fork_server.import_everything()
terminal, _ = os.openpty()
layers = sandbox.confine(4 * 2**30, os.getppid(), ["/dev/zero"], ["/proc/devices"])
print([name for name in layers if layers[name]])

def tried(deed):
    try:
        deed()
        return "done"
    except OSError as error:
        return errno.errorcode[error.errno]

device = os.open("/dev/zero", os.O_RDWR)
print(tried(lambda: fcntl.ioctl(device, 0xc0204600 | 42)))  # reaches the driver, which does not know it
print(tried(lambda: fcntl.ioctl(terminal, 0x5412, b"x")))  # a character put into a terminal's input
print(tried(lambda: os.open("/dev/null", os.O_RDWR)))
print(tried(lambda: os.open("/tmp/made", os.O_RDWR | os.O_CREAT)))
print(tried(lambda: os.open("/etc/passwd", os.O_RDONLY)))
print(tried(lambda: os.open("/proc/devices", os.O_RDONLY)))
print(tried(lambda: os.kill(os.getppid(), 0)))
"""


def test_the_cage_is_wider_by_the_cards_files_alone() -> None:
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}

    done = subprocess.run(
        [sys.executable, "-P", "-c", DEVICES], capture_output=True, text=True, check=False, cwd="/", env=environment
    )

    assert done.stdout.splitlines() == ["[]", "ENOTTY", "EPERM", "EACCES", "EPERM", "EACCES", "done", "EPERM"], done


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_filter_of_a_decoder_without_a_card_has_no_ioctl(machine: str) -> None:
    number = getattr(seccomp.CONDITIONAL["ioctl"], machine)
    narrow, wide = (seccomp.program(machine, devices=devices) for devices in (False, True))

    assert (seccomp.EQUAL, number) not in [(code, operand) for code, _, _, operand in narrow]
    assert (seccomp.EQUAL, number) in [(code, operand) for code, _, _, operand in wide]


def test_a_card_and_decord_contradict_each_other(tmp_path: Path) -> None:
    place = {"kind": "folder", "path": "."}
    values = {"sources": {"a": place}, "sink": place, "frames": {"hwaccel": "cuda", "decoder": "decord"}}

    with pytest.raises(ConfigurationError, match="hwaccel needs decoder: av"):
        settings_from(values, folder=tmp_path)
