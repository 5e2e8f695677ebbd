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
from tests.corpus.clips import READABLE, make
from tests.corpus.painted import read


def ffprobe_times_ns(path: Path) -> np.ndarray:
    """Return when FFmpeg shows each frame, from the first."""
    command = ["ffprobe", "-v", "error", "-select_streams", "v:0", "-of", "json", "-show_entries", "frame=pts_time"]
    frames = json.loads(subprocess.run([*command, str(path)], capture_output=True, check=True).stdout)["frames"]
    times_ns = np.array([round(Fraction(frame["pts_time"]) * NS_PER_S) for frame in frames])
    return times_ns - times_ns[0]


def test_clips_of_one_name_have_a_folder_each(tmp_path: Path) -> None:
    clips = [Path(name) for name in ("cam1/a.mp4", "cam2/a.mp4", "x/cam1/a.mkv", "b.mp4", "cam1-a.mp4", "b.mp4")]

    folders = picture_folders(tmp_path, clips)

    assert [folders[clip].name for clip in clips] == ["cam1-a", "cam2-a", "cam1-a-2", "b", "cam1-a-3", "b"]
    assert picture_folders(tmp_path, clips[:1]) == {clips[0]: tmp_path}


@pytest.mark.engine  # the size of its pictures is the bundled model's, as vLLM knows it
@pytest.mark.skipif(shutil.which("ffprobe") is None, reason="ffprobe is not installed")
@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", ["vfr_mp4", "h264_ts_wrap", "rotated_90"])
def test_pictures_are_ffmpegs_frames(name: str, tmp_path: Path) -> None:
    truth = make(tmp_path / name, READABLE[name])
    out = tmp_path / "pictures"
    command = [sys.executable, "-m", "daemon", "sample", str(truth.path), "--out", str(out)]

    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)

    assert done.returncode == 0, done.stderr
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
