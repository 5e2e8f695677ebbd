"""Frames of the size of their window cost what they did, by the processors in vLLM; every window meets its budget."""

import json
from pathlib import Path
from typing import Any

import pytest

from connectors.errors import ConfigurationError
from daemon.commands.one_shot import SOURCE
from daemon.commands.plan import plan
from daemon.config.file import settings_from
from daemon.config.prompt_trial import check_prompts
from daemon.engines.model.token_planner import ModelTokenPlanner
from daemon.engines.vllm.load import load_model
from daemon.frame_look import FrameSize, PixelBudget
from testing import tiny_models
from testing.load import write_load_clip
from tests.contract.engine_contract import ASK
from tests.contract.vllm_engines import MARKS, MAX_MODEL_LEN, settings

pytestmark = MARKS

MODELS = ("qwen2_5_vl", "qwen3_vl", "llava_onevision", "llava")
SHAPES = [(1, 56, 56), (8, 1080, 1920), (5, 640, 360), (7, 200, 300), (3, 30, 40), (2, 29, 33)]
_planners: dict[tuple[str, str], ModelTokenPlanner] = {}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


def planner_of(models: Path, name: str, **given: Any) -> ModelTokenPlanner:
    key = (name, json.dumps(given))
    if key not in _planners:
        args = {"mm_processor_kwargs": given} if given else {}
        _planners[key] = load_model(settings(tiny_models.build(name, models), args=args), 8).planner
    return _planners[key]


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("shape", SHAPES)
def test_frames_of_that_size_cost_what_the_clips_own_do(models: Path, name: str, shape: tuple[int, int, int]) -> None:
    planner, (num_frames, height, width) = planner_of(models, name), shape
    size = planner.frame_size(num_frames, FrameSize(width, height), PixelBudget())

    native = planner.plan(num_frames, height, width, ASK)
    assert planner.plan(num_frames, size.height, size.width, ASK) == native
    assert planner.vision_tokens(num_frames, size) == native.vision_tokens
    assert planner.vision_tokens(num_frames, FrameSize(width, height)) == native.vision_tokens


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("qwen2_5_vl", {"max_pixels": 84 * 84}),
        ("qwen2_5_vl", {"size": {"shortest_edge": 784, "longest_edge": 84 * 84}}),
        ("qwen2_5_vl", {"videos_kwargs": {"max_pixels": 84 * 84}}),
        ("qwen3_vl", {"max_pixels": 8 * 96 * 96}),
        ("qwen3_vl", {"size": {"shortest_edge": 1024, "longest_edge": 8 * 96 * 96}}),
        ("qwen3_vl", {"cap_pixels_per_frame": True}),
    ],
)
def test_the_arguments_of_the_engine_say_the_size(models: Path, name: str, given: dict[str, Any]) -> None:
    planner, own = planner_of(models, name, **given), FrameSize(640, 360)
    size = planner.frame_size(8, own, PixelBudget())

    assert size.pixels <= 112 * 112 * (2 if name == "qwen3_vl" else 1)
    native = planner.plan(8, own.height, own.width, ASK)
    assert planner.plan(8, size.height, size.width, ASK) == native
    assert planner.vision_tokens(8, own) == native.vision_tokens


@pytest.mark.parametrize("name", ["qwen2_5_vl", "qwen3_vl"])
@pytest.mark.parametrize("num_frames", [1, 4, 7, 8])
def test_a_window_costs_no_more_tokens_than_its_budget(models: Path, name: str, num_frames: int) -> None:
    planner = planner_of(models, name)
    size = planner.frame_size(num_frames, FrameSize(640, 360), PixelBudget(max_vision_tokens=24))

    assert planner.plan(num_frames, size.height, size.width, ASK).vision_tokens <= 24


def configured(models: Path, tmp_path: Path, **sections: Any) -> Any:
    engine = {"model": str(tiny_models.build("qwen3_vl", models)), "dtype": "float32", "max_model_len": MAX_MODEL_LEN}
    place = {"kind": "folder", "path": "."}
    return settings_from({"engine": engine, "sources": {SOURCE: place}, "sink": place, **sections}, folder=tmp_path)


async def test_a_plan_says_the_tokens_before_and_after(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_load_clip(tmp_path / "clip.mp4", windows=24)  # 24 s of 64 x 64
    frames = {"fps": 1.0, "min_frames": 2, "max_vision_tokens": 12}
    windows = {"window_s": 10.0, "min_tail_s": 2.0}
    loaded = configured(models, tmp_path, windows=windows, frames=frames)

    await plan(loaded, [tmp_path / "clip.mp4"], "json")

    planner = planner_of(models, "qwen3_vl")
    rows = json.loads(capsys.readouterr().out)["windows"]
    assert [len(row["frames"]) for row in rows] == [10, 10, 4]
    for row in rows:
        count = len(row["frames"])
        offsets = tuple((frame["pts_ns"] - row["start_ns"]) // 1_000_000 for frame in row["frames"])
        planned = planner.plan(count, row["height"], row["width"], ASK, offsets)
        assert row["vision_tokens"] == planned.vision_tokens <= 12
        assert row["unbounded_vision_tokens"] == planner.plan(count, 64, 64, ASK).vision_tokens
    assert rows[0]["vision_tokens"] < rows[0]["unbounded_vision_tokens"]
    assert (rows[2]["width"], rows[2]["height"]) == (64, 64)  # the short tail has room

    await plan(loaded, [tmp_path / "clip.mp4"], "table")

    assert "unbounded" in capsys.readouterr().out


def test_a_budget_that_no_window_can_meet_is_refused_at_the_start(models: Path, tmp_path: Path) -> None:
    loaded = configured(models, tmp_path, frames={"num_frames": 8, "max_vision_tokens": 3})

    with pytest.raises(ConfigurationError, match=r"frames\.max_vision_tokens: .*cost 4 vision tokens however small"):
        check_prompts(loaded, planner_of(models, "qwen3_vl"))
