"""Models planned and refused from their configuration and processor: the real vLLM, and no engine."""

import json
from pathlib import Path
from typing import Any

import pytest

from connectors.errors import ConfigurationError, Poison, Reason
from daemon.commands.check_forms import check_forms
from daemon.commands.one_shot import SOURCE
from daemon.commands.plan import plan
from daemon.config.clip_settings import settings_by_source
from daemon.config.file import settings_from
from daemon.engines.vllm.load import load_model
from daemon.prompts.prompt import Prompt
from testing import tiny_models
from testing.load import write_load_clip
from tests.contract.engine_contract import ASK
from tests.contract.ten_schemas import SCHEMAS
from tests.contract.vllm_engines import MARKS, MAX_MODEL_LEN, settings

pytestmark = MARKS


def test_a_model_that_writes_times_into_its_prompt_is_planned_with_them(tmp_path: Path) -> None:
    folder = tiny_models.build("qwen3_vl", tmp_path)
    planner = load_model(settings(folder), 8).planner

    near = planner.plan(4, 64, 64, ASK, (500, 1500, 2500, 3500))
    far = planner.plan(4, 64, 64, ASK, (60_500, 100_500, 140_500, 180_500))

    assert far.prompt_tokens == near.prompt_tokens + 3  # "<80.5 seconds>" and "<160.5 seconds>" for "<1.0" and "<3.0"
    assert far.vision_tokens == near.vision_tokens


async def test_a_plan_counts_the_times_of_each_window(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tiny_models.build("qwen3_vl", tmp_path)
    write_load_clip(tmp_path / "clip.mp4", windows=24)
    engine = {"model": str(folder), "dtype": "float32", "max_model_len": MAX_MODEL_LEN}
    values = {"engine": engine, "windows": {"window_s": 10.0, "min_tail_s": 5.0}, "frames": {"num_frames": 4}}
    place = {"kind": "folder", "path": "."}
    loaded = settings_from({**values, "sources": {SOURCE: place}, "sink": place}, folder=tmp_path)

    await plan(loaded, [tmp_path / "clip.mp4"], "json")

    windows = json.loads(capsys.readouterr().out)["windows"]
    planner = load_model(settings(folder), 8).planner
    prompt = Prompt("Describe this video.")
    for window in windows:
        offsets = tuple((frame["pts_ns"] - window["start_ns"]) // 1_000_000 for frame in window["frames"])
        assert window["prompt_tokens"] == planner.plan(4, 64, 64, prompt, offsets).prompt_tokens
    assert [window["exclusive_end_ns"] // 10**9 for window in windows] == [10, 24]  # the tail joins: 14 s
    assert windows[1]["prompt_tokens"] == windows[0]["prompt_tokens"] + 1  # a time above ten seconds has a digit more


def test_an_overflow_is_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    planner = load_model(settings(tiny_models.build("qwen2_5_vl", tmp_path)), 8).planner

    planner.check(ASK, 8, 112, 112)
    with pytest.raises(Poison, match=r"are more than the model's 1024") as over:
        planner.check(Prompt("What?", max_tokens=1000), 8, 112, 112)

    assert over.value.reason == Reason.OVER_CONTEXT


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"tensor_parallel_size": 3}, r"engine\.tensor_parallel_size"),
        ({"args": {"max-num-seqz": 1}}, r"engine\.args\.max-num-seqz: .*did you mean max_num_seqs"),
        ({"args": {"max-num-seqs": "many"}}, r"engine\.args\.max-num-seqs: 'many' does not fit: .*integer"),
        ({"args": {"gpu_memory_utilization": 7}}, r"gpu_memory_utilization"),
        ({"quantization": "nonsense"}, r"engine: .*quantization"),
    ],
)
def test_wrong_settings_are_refused_before_anything_is_loaded(
    tmp_path: Path, changes: dict[str, Any], says: str
) -> None:
    folder = tiny_models.build("llava", tmp_path)

    with pytest.raises(ConfigurationError, match=says):
        load_model(settings(folder, **changes), 8)


def test_a_model_of_text_alone_is_refused(tmp_path: Path) -> None:
    folder = tiny_models.build("llama", tmp_path)

    with pytest.raises(ConfigurationError, match=r"engine\.model: it takes neither images nor videos"):
        load_model(settings(folder), 8)


@pytest.mark.parametrize(
    ("prompt", "path", "says"),
    [
        ({"schema": {"type": "array", "items": {}, "uniqueItems": True}}, "prompt.schema", "keyword uniqueItems"),
        ({"schema": {"properties": {"a": {"type": "number", "multipleOf": 2}}}}, "prompt.schema", "a.multipleOf"),
        ({"regex": "(?<=a)b"}, "prompt.regex", "Lookbehind"),
    ],
)
def test_a_form_that_the_grammar_cant_take_is_refused_and_the_keyword_named(
    tmp_path: Path, prompt: dict[str, Any], path: str, says: str
) -> None:
    place = {"kind": "folder", "path": "."}
    values = {"sources": {"a": place}, "sink": place, "engine": {"kind": "vllm", "model": "bundled"}, "prompt": prompt}
    loaded = settings_from(values, folder=tmp_path)

    with pytest.raises(ConfigurationError, match=says) as refused:
        check_forms(loaded, settings_by_source(loaded))

    assert refused.value.path == path


def test_forms_that_the_grammar_takes_pass(tmp_path: Path) -> None:
    place = {"kind": "folder", "path": "."}
    asked = {f"s{number}": {"schema": schema} for number, schema in enumerate(SCHEMAS)}
    values = {"sources": {"a": place}, "sink": place, "prompts": asked | {"c": {"choice": ["yes", "no"]}}}
    loaded = settings_from(values | {"engine": {"kind": "vllm", "model": "bundled"}}, folder=tmp_path)

    check_forms(loaded, settings_by_source(loaded))
