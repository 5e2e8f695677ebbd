"""Placeholders found in prompts by vLLM's own processors: one token, a sequence, and what strangers write."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from connectors.errors import ConfigurationError, Poison, Reason
from daemon.engines.model.media_form import MediaForm
from daemon.engines.vllm import library
from daemon.engines.vllm.form import form_of
from daemon.engines.vllm.load import load_model
from daemon.engines.vllm.placeholder import placeholder_of
from daemon.prompts.prompt import Placeholder, Prompt, PromptEncoder
from testing import tiny_models
from testing.tiny_models import IMAGE_TEMPLATE, byte_tokenizer
from tests.contract.vllm_engines import MARKS, settings

pytestmark = [*MARKS, pytest.mark.thorough]

# written by the class, and the sender's own spellings of it
PLACEHOLDERS = {
    "llava": "<image>",
    "qwen2_5_vl": "<|vision_start|><|video_pad|><|vision_end|>",
    "glm4_1v": "<|begin_of_video|><|video|><|end_of_video|>",
    "internvl_chat": "<video>",
    "keye_vl1_5": "<|vision_start|><|video_pad|><|vision_end|>",
}


@pytest.fixture(scope="module", params=PLACEHOLDERS)
def encoder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> PromptEncoder:
    folder = tiny_models.build(request.param, tmp_path_factory.mktemp("models"))
    return load_model(settings(folder, args={"trust-remote-code": True}), 8).planner.encoder


def test_it_is_what_the_class_writes(encoder: PromptEncoder) -> None:
    assert encoder.placeholder.text_of(1) in PLACEHOLDERS.values()


@pytest.mark.parametrize("more", [-1, 1])
def test_a_prompt_that_shows_more_or_fewer_is_refused(encoder: PromptEncoder, more: int) -> None:
    items = 3 if encoder.placeholder.modality == "image" else 1
    ids = encoder.encode(Prompt("What happens?"), items)

    assert encoder.placeholder.shown(ids, items) == items
    assert encoder.placeholder.shown(ids, items + more) == items
    with pytest.raises(Poison) as refused:
        encoder.encode(Prompt(f"What is in {encoder.placeholder.text_of(1)}?"), items)
    assert refused.value.reason == Reason.PROMPT


def test_a_senders_text_gives_none(encoder: PromptEncoder) -> None:
    items = 2 if encoder.placeholder.modality == "image" else 1
    for text in {*PLACEHOLDERS.values(), "<|video|>", "<|video_pad|>", "<img>", "<video>\n<video>"}:
        ids = encoder.encode(Prompt(f"See {text} and say.", from_sender=True), items)

        assert encoder.placeholder.shown(ids, items) == items
        assert len(ids) > len(encoder.encode(Prompt("See and say."), items))  # it is read as text, not left out


def test_a_placeholder_of_several_tokens_is_found_by_its_text_too(tmp_path: Path) -> None:
    """A tokenizer may make other tokens of it where something else stands beside it."""
    folder = tiny_models.build("internvl_chat", tmp_path)
    placeholder: Placeholder = load_model(
        settings(folder, args={"trust-remote-code": True}), 8
    ).planner.encoder.placeholder

    assert placeholder.respells


class Family:
    """A processor of vLLM's own matching for a family that is made up: what it replaces for its n-th image."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, extra: list[str], writes: Callable[[int], str]) -> None:
        from vllm.multimodal.processing import BaseMultiModalProcessor

        self.tokenizer = byte_tokenizer(extra, IMAGE_TEMPLATE)
        self.refuses: Callable[[int], bool] = lambda _: False
        methods = ("_apply_token_matches", "_apply_prompt_updates_via_text", "_iter_text_matches")
        for name in methods:
            setattr(self, name, getattr(BaseMultiModalProcessor, name).__get__(self))
        self.info = SimpleNamespace(get_tokenizer=lambda: self.tokenizer, get_hf_processor=lambda: None)
        monkeypatch.setattr(library, "placeholder_text", lambda _, __, number: writes(number))
        monkeypatch.setattr(library, "takes_timestamps", lambda _: False)

    def replaces(self, monkeypatch: pytest.MonkeyPatch, modality: str, target_of: Callable[[int], list[int]]) -> None:
        from vllm.multimodal.processing import PromptReplacement

        def updates(_: Any, media: dict[str, list[Any]], *__: Any) -> dict[str, list[list[Any]]]:
            items = media[modality]
            if modality == "video" and self.refuses(len(items[0][0])):
                raise ValueError("too many" if len(items[0][0]) > 3 else "too few")
            rule = PromptReplacement(modality=modality, target=target_of, replacement=[0])
            return {modality: [[rule.resolve(index)] for index in range(len(items))]}

        monkeypatch.setattr(library, "prompt_updates", updates)

    def encode(self, text: str) -> list[int]:
        return list(self.tokenizer.encode(text, add_special_tokens=False))


def test_images_may_be_numbered(monkeypatch: pytest.MonkeyPatch) -> None:
    family = Family(monkeypatch, [], lambda number: f"<|image_{number}|>")
    family.replaces(monkeypatch, "image", lambda index: family.encode(f"<|image_{index + 1}|>"))

    placeholder = placeholder_of(None, family, MediaForm("image"))

    assert placeholder.texts(3) == ["<|image_1|>", "<|image_2|>", "<|image_3|>"]
    whole = family.encode("<|image_1|><|image_2|>\n<|image_3|> What?")
    assert placeholder.shown(whole, 3) == 3
    assert placeholder.shown(whole, 2) == 3  # one is left over
    assert placeholder.shown(family.encode("<|image_1|><|image_1|> What?"), 2) == 1


def test_the_token_that_a_prompt_shows_may_be_another_than_the_one_of_the_features(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Gemma 3's configuration names `<image_soft_token>`; its template and processor know `<start_of_image>`."""
    family = Family(monkeypatch, ["<start_of_image>", "<image_soft_token>"], lambda _: "<start_of_image>")
    family.replaces(monkeypatch, "image", lambda _: family.encode("<start_of_image>"))

    placeholder = placeholder_of(None, family, MediaForm("image"))

    assert placeholder.texts(2) == ["<start_of_image>"] * 2
    assert placeholder.shown(family.encode("<start_of_image><start_of_image>?"), 2) == 2
    assert placeholder.shown(family.encode("<image_soft_token><image_soft_token>?"), 2) == 0


def test_a_name_of_the_checkpoints_own_is_written_where_the_class_has_another(monkeypatch: pytest.MonkeyPatch) -> None:
    family = Family(monkeypatch, ["<img_ctx>"], lambda _: "<image>")
    family.replaces(monkeypatch, "image", lambda _: family.encode("<img_ctx>"))

    assert placeholder_of(None, family, MediaForm("image")).text_of(1) == "<img_ctx>"


def test_frames_are_added_up_to_what_a_processor_asks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    family = Family(monkeypatch, ["<video>"], lambda _: "<video>")
    family.replaces(monkeypatch, "video", lambda _: family.encode("<video>"))
    family.refuses = lambda num_frames: num_frames < 3

    assert form_of(family, "video", 8).least_frames == 3


def test_more_frames_than_a_processor_takes_are_refused_with_the_key_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    family = Family(monkeypatch, ["<video>"], lambda _: "<video>")
    family.replaces(monkeypatch, "video", lambda _: family.encode("<video>"))
    family.refuses = lambda num_frames: num_frames > 32

    assert form_of(family, "video", 32) == MediaForm("video")
    with pytest.raises(ConfigurationError, match=r"takes no video of 40 frames: too many; set frames\.num_frames"):
        form_of(family, "video", 40)


def test_a_processor_that_takes_one_frame_alone_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    family = Family(monkeypatch, ["<video>"], lambda _: "<video>")
    family.replaces(monkeypatch, "video", lambda _: family.encode("<video>"))
    family.refuses = lambda num_frames: num_frames > 1

    with pytest.raises(ConfigurationError, match=r"no window of several frames as one video: .*docs/models\.md"):
        form_of(family, "video", 8)


@pytest.mark.parametrize("model", ["glm4_1v", "glm4_6v"])
def test_repeated_frames_keep_their_places_in_the_prompt(model: str, tmp_path: Path) -> None:
    """The family's times drop what has the same time as before, and its pixels do not."""
    planner = load_model(settings(tiny_models.build(model, tmp_path)), 8).planner

    distinct = planner.plan(8, 112, 112, Prompt("What?"), tuple(range(0, 8000, 1000)))
    repeated = planner.plan(8, 112, 112, Prompt("What?"), tuple(k // 2 * 2000 for k in range(8)))

    assert repeated == distinct


def test_colours_of_videos_are_normalised_with_their_own_figures(tmp_path: Path) -> None:
    """VLLM normalises on the device with the image processor's figures, so where they differ it is not asked to."""
    same, other = tiny_models.build("qwen3_vl", tmp_path), tiny_models.build("qwen3_vl", tmp_path / "other")
    path = other / "processor_config.json"
    config = json.loads(path.read_text())
    config["image_processor"]["image_mean"] = [0.4, 0.5, 0.6]
    path.write_text(json.dumps(config))

    alike, unalike = load_model(settings(same), 8).arguments, load_model(settings(other), 8).arguments

    assert "mm_device_do_normalize" not in alike
    assert unalike["mm_device_do_normalize"] is False
