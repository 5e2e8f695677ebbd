"""``captiond sample``, seen from outside: its pictures are the frames that FFmpeg shows at the times in their names."""

import json
import shutil
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from daemon.commands.sample import picture_folders
from daemon.windows import NS_PER_S
from testing.repository import ROOT
from tests.corpus.clips import READABLE, Truth, make
from tests.corpus.painted import read


def ffprobe_times_ns(path: Path) -> np.ndarray:
    """Return when FFmpeg shows each frame, from the first."""
    command = ["ffprobe", "-v", "error", "-select_streams", "v:0", "-of", "json", "-show_entries", "frame=pts_time"]
    frames = json.loads(subprocess.run([*command, str(path)], capture_output=True, check=True).stdout)["frames"]
    times_ns = np.array([round(Fraction(frame["pts_time"]) * NS_PER_S) for frame in frames])
    return times_ns - times_ns[0]


@pytest.mark.parametrize(
    ("clips", "folders"),
    [
        (["a.mp4"], ["out"]),
        (["a.mp4", "b.mp4"], ["out/a", "out/b"]),
        (["cam1/clip.mp4", "cam2/clip.mp4"], ["out/cam1/clip", "out/cam2/clip"]),
        (["a.mp4", "a.mkv"], ["out/a.mp4", "out/a.mkv"]),
        (["x/a.mp4", "x/a.mkv", "x/a.mp4.mkv"], ["out/a.mp4", "out/a.mkv", "out/a.mp4.1"]),
        (["d/a.mp4", "d/a.mkv", "e/a.mp4", "b.mp4"], ["out/d/a.mp4", "out/d/a.mkv", "out/e/a", "out/b"]),
    ],
)
def test_each_clip_has_a_folder_of_its_own(clips: list[str], folders: list[str]) -> None:
    assert picture_folders([Path(clip) for clip in clips], Path("out")) == [Path(folder) for folder in folders]


NAMES = ("vfr_mp4", "h264_ts_wrap", "rotated_90")


@pytest.fixture(scope="module")
def sampled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Truth, Path]]:
    """The truth about each clip, and the folder of the pictures that one command for all of them made."""
    folder = tmp_path_factory.mktemp("sampled")
    truths = [make(folder / name, READABLE[name]) for name in NAMES]
    clips, out = [truth.path for truth in truths], folder / "pictures"
    command = [sys.executable, "-m", "daemon", "sample", *map(str, clips), "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    return dict(zip(NAMES, zip(truths, picture_folders(clips, out), strict=True), strict=True))


@pytest.mark.engine  # the size of its pictures is the bundled model's, as vLLM knows it
@pytest.mark.skipif(shutil.which("ffprobe") is None, reason="ffprobe is not installed")
@pytest.mark.timeout(240)
@pytest.mark.parametrize("name", NAMES)
def test_pictures_are_ffmpegs_frames(name: str, sampled: dict[str, tuple[Truth, Path]]) -> None:
    truth, out = sampled[name]

    times_ns = ffprobe_times_ns(truth.path)
    pictures = sorted(out.glob("w0000_f*.png"))
    assert len(pictures) == 8
    assert (out / "contact_sheet.png").exists()
    for picture in pictures:
        distance_ns = np.abs(times_ns - int(picture.stem.split("_")[2]))
        number = int(np.argmin(distance_ns))
        assert distance_ns[number] <= 2000  # ffprobe prints whole microseconds
        with Image.open(picture) as frame:
            assert int(read(np.asarray(frame))) == truth.numbers[number]
