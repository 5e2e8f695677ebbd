"""A preset stands for what a family's authors publish, and whatever the configuration says itself wins over it."""

from typing import Any, get_args

import pytest

from connectors.errors import ConfigurationError
from daemon.config.clip_settings import settings_by_source
from daemon.config.file import settings_from
from daemon.config.frame_presets import PRESETS, Preset
from daemon.config.settings import FramesSettings
from daemon.engines.build import most_frames
from daemon.windows import NS_PER_S, FramePolicy
from testing.repository import ROOT


def policy(**keys: Any) -> FramePolicy:
    return FramesSettings(**keys).to_policy()


def settings(frames: dict[str, Any], own: dict[str, Any] | None = None, **sections: Any) -> Any:
    source = {"kind": "folder", "path": "in", **({"frames": own} if own else {})}
    values = {"sources": {"one": source}, "sink": {"kind": "folder", "path": "out"}, "engine": {"kind": "fake"}}
    return settings_from({**values, "frames": frames, **sections}, folder=ROOT)


def test_there_is_one_for_each_name() -> None:
    assert set(PRESETS) == set(get_args(Preset))


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_is_the_keys_that_it_stands_for(preset: Preset) -> None:
    given = {key: value for key, value in PRESETS[preset].items() if key != "max_frame_tokens"}

    assert policy(preset=preset).frames_in(10 * NS_PER_S) == policy(**given).frames_in(10 * NS_PER_S)
    assert policy(preset=preset).max_vision_tokens == policy(**given).max_vision_tokens
    assert repr(policy(preset=preset)) != repr(policy()) or preset == "internvl"  # which says what is the default


def test_qwens_is_two_frames_a_second_with_their_caps() -> None:
    qwen = policy(preset="qwen")

    assert [qwen.frames_in(seconds * NS_PER_S) for seconds in (1, 10, 900)] == [4, 20, 768]
    assert (qwen.max_frame_tokens, qwen.max_vision_tokens, qwen.max_pixels) == (768, 24_576, None)


def test_what_is_given_wins() -> None:
    assert policy(preset="qwen", num_frames=16).frames_in(60 * NS_PER_S) == 16
    assert policy(preset="gemma4", fps=1.0).frames_in(10 * NS_PER_S) == 10
    assert policy(preset="qwen", max_frames=32).frames_in(60 * NS_PER_S) == 32
    assert policy(preset="qwen", min_frames=100).frames_in(1 * NS_PER_S) == 100
    bounded = policy(preset="qwen", max_pixels=10_000, max_vision_tokens=None).budget
    assert (bounded.max_pixels, bounded.max_vision_tokens, bounded.max_frame_tokens) == (10_000, None, None)


def test_a_policys_text_is_as_before_without_a_bound() -> None:
    before = "FramePolicy(rule='time', num_frames=8, fps=None, min_frames=4, max_frames=64, splice=None, snap='exact'"

    assert repr(policy()) == f"{before})"
    assert repr(policy(max_pixels=100)) == f"{before}, max_pixels=100)"
    assert repr(policy(max_vision_tokens=100)) == f"{before}, max_vision_tokens=100)"


def test_nevas_rule_is_a_choice_of_its_own() -> None:
    with pytest.raises(ConfigurationError, match=r"frames: .*rule: neva is a choice of frames of its own"):
        settings({"preset": "qwen", "rule": "neva"})


def test_a_name_that_there_is_none_of_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"frames\.preset"):
        settings({"preset": "quen"})


@pytest.mark.parametrize(
    ("top", "own", "frames"),
    [
        ({"preset": "qwen"}, {"num_frames": 3}, 3),
        ({"num_frames": 3}, {"preset": "qwen"}, 20),
        ({"fps": 5.0, "max_frames": 40}, {"preset": "gemma4"}, 32),
        ({"preset": "qwen"}, {"preset": "internvl"}, 8),
        ({"preset": "qwen"}, {"fps": 1.0}, 10),
    ],
)
def test_a_sources_own_keys_go_over_the_top_levels(top: dict[str, Any], own: dict[str, Any], frames: int) -> None:
    mine = settings_by_source(settings(top, own))["one"]

    assert mine.frames.frames_in(10 * NS_PER_S) == frames


def test_an_engine_is_started_for_the_longest_window_that_there_can_be() -> None:
    assert most_frames(settings({"preset": "qwen"})) == 30  # a window of 10 s and a tail of up to 5 s
    assert most_frames(settings({"preset": "qwen"}, windows={"policy": "whole"})) == 768
    assert most_frames(settings({"num_frames": 12})) == 12
    assert most_frames(settings({"fps": 1.0, "splice_single_frame": "first"})) == 1
