"""`captiond bench`: the engine alone beside the whole pipeline, over the same windows."""

import json
import math
from pathlib import Path

import pytest

from connectors.errors import ExitCode
from daemon import __main__ as command_line
from daemon.commands import bench as command
from daemon.config.settings import Settings
from neva.shapes.scenes import HELD_OUT_SEEDS, film_of, write_film


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A film of four windows."""
    path = tmp_path_factory.mktemp("films") / "film.mp4"
    write_film(path, film_of(HELD_OUT_SEEDS[:4], scene_s=10.0))
    return path


def bench(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Run the command over a fake engine; return its exit code."""
    monkeypatch.setattr("sys.argv", ["captiond", "bench", *arguments, "--set", "engine.kind=fake"])
    with pytest.raises(SystemExit) as ended:
        command_line.main()
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_both_ways_do_the_same_windows(
    film: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code = bench(monkeypatch, str(film), "--windows", "6", "--rounds", "2", "--format", "json")
    report = json.loads(capsys.readouterr().out)
    assert code == ExitCode.CLEAN
    alone, whole = report["engine_alone"], report["whole_pipeline"]
    assert alone["windows"] == whole["windows"] == 2 * 8  # whole clips: 6 windows need the film of 4 twice
    assert alone["prompt_tokens"] == whole["prompt_tokens"] > 0
    assert alone["output_tokens"] == whole["output_tokens"] > 0
    assert whole["video_s"] == pytest.approx(2 * 80.0)
    ratio = (whole["output_tokens"] / whole["took_s"]) / (alone["output_tokens"] / alone["took_s"])
    assert math.isclose(report["efficiency"], ratio)
    assert report["decoding_alone"]["windows"] == 2 * 8
    assert 0 < report["cores_allow"] <= 1


@pytest.mark.parametrize(
    ("cores", "allow", "bottleneck"), [(2, 0.5, "cores"), (3, 0.75, "decoders"), (8, 1.0, "decoders")]
)
def test_cores_that_decoding_takes_from_the_engine_are_told_from_the_rest(
    monkeypatch: pytest.MonkeyPatch, cores: int, allow: float, bottleneck: str
) -> None:
    monkeypatch.setattr(command, "core_count", lambda: cores)
    engine_alone = command.Rate(windows=10, output_tokens=100, took_s=5.0, processor_s=10.0)
    decoding_alone = command.Rate(windows=10, took_s=8.0, processor_s=10.0)
    whole = command.Rate(windows=10, output_tokens=100, took_s=11.0, decode_s=20.0, processor_s=20.0)

    folders = {"sources": {"in": {"kind": "folder", "path": "in"}}, "sink": {"kind": "folder", "path": "out"}}
    settings = Settings.model_validate(folders | {"engine": {"kind": "fake"}, "limits": {"decoders": 2}})
    report = command._report(settings, engine_alone, whole, decoding_alone)

    assert report["cores_allow"] == pytest.approx(allow)
    assert report["bottleneck"] == bottleneck


def test_frames_that_do_not_fit_are_shown_again(
    film: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # two windows of eight frames of 224 x 224 fit into half of this
    given = ("--set", "limits.in_flight_bytes=5MiB", "--windows", "4", "--rounds", "1", "--format", "json")
    assert bench(monkeypatch, str(film), *given) == ExitCode.CLEAN
    assert json.loads(capsys.readouterr().out)["engine_alone"]["windows"] == 4


def test_a_clip_that_cannot_be_read_is_counted(
    film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    noise = tmp_path / "noise.mp4"
    noise.write_bytes(b"no video " * 99)
    assert bench(monkeypatch, str(film), str(noise), "--windows", "1", "--rounds", "1") == ExitCode.CLIP_FAILED
    said = capsys.readouterr().out
    assert "Efficiency" in said
    assert "1 clip(s) could not be captioned" in said


def test_nothing_to_measure_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    noise = tmp_path / "noise.mp4"
    noise.write_bytes(b"no video " * 99)
    assert bench(monkeypatch, str(noise)) == ExitCode.CLIP_FAILED
    assert "no window of these clips can be decoded" in capsys.readouterr().err
