"""The model that ships: small, whole, and readable by transformers from its folder alone."""

import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import neva
from neva.shapes.prompts import CHAT, DEFAULT_QUESTION
from neva.shapes.scenes import all_captions, caption_of, encode_clip, random_scene

FOLDER = Path(neva.__file__).parent / "bundled"
MIB = 2**20
FRAMES, PATCHES = 8, 16
UNSEEN_SEEDS = range(17_000_000, 17_000_012)  # neither trained on nor scored with

os.environ.setdefault("HF_HUB_OFFLINE", "1")


@pytest.fixture(scope="module")
def processor() -> Any:
    from transformers import AutoProcessor

    return AutoProcessor.from_pretrained(FOLDER)


@pytest.fixture(scope="module")
def model() -> Any:
    from transformers import LlavaForConditionalGeneration

    loaded, report = LlavaForConditionalGeneration.from_pretrained(FOLDER, output_loading_info=True)
    assert not any(report.values()), report
    return loaded.eval()


def test_the_folder_is_at_most_twenty_four_megabytes() -> None:
    sizes = {path.name: path.stat().st_size for path in FOLDER.iterdir()}

    assert sum(sizes.values()) <= 24_000_000
    assert {"config.json", "model.safetensors", "tokenizer.json", "processor_config.json", "README.md"} <= set(sizes)


def test_vllm_can_serve_its_sizes() -> None:
    config = json.loads((FOLDER / "config.json").read_text())
    text, vision = config["text_config"], config["vision_config"]

    assert config["architectures"] == ["LlavaForConditionalGeneration"]
    for part in (text, vision):
        head = part.get("head_dim") or part["hidden_size"] // part["num_attention_heads"]
        assert head in (32, 64, 80, 96, 112, 128)
        assert part["num_attention_heads"] % 2 == part["intermediate_size"] % 2 == 0
    assert text["num_key_value_heads"] % 2 == text["vocab_size"] % 64 == 0
    assert (vision["image_size"] // vision["patch_size"]) ** 2 == config["image_seq_length"] == PATCHES


def test_the_weights_have_the_names_that_vllm_reads() -> None:
    from safetensors import safe_open

    with safe_open(FOLDER / "model.safetensors", "np") as weights:
        names = set(weights.keys())

    parts = ("language_model.model.", "language_model.lm_head.", "multi_modal_projector.", "vision_tower.vision_model.")
    assert all(name.startswith(parts) for name in names)


def test_every_weight_is_loaded(model: Any) -> None:
    assert model.dtype.is_floating_point
    assert 1_000_000 <= sum(parameter.numel() for parameter in model.parameters()) <= 6_000_000


@given(text=st.text(st.characters(exclude_categories=["Cs"])))
@settings(max_examples=200, deadline=None)
def test_any_text_survives_the_tokenizer(processor: Any, text: str) -> None:
    tokenizer = processor.tokenizer

    assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) == text


def test_a_caption_is_a_few_tokens(processor: Any) -> None:
    tokenizer = processor.tokenizer
    lengths = [len(tokenizer(caption, add_special_tokens=False)["input_ids"]) for caption in all_captions()]

    assert max(lengths) <= 12


def test_the_chat_template_writes_what_was_trained(processor: Any) -> None:
    frames = [{"type": "image"}] * FRAMES
    question = {"type": "text", "text": DEFAULT_QUESTION}

    for content in ([*frames, question], [question, *frames]):
        prompt = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
        assert prompt == CHAT.before + "<image>" * FRAMES + CHAT.separator + DEFAULT_QUESTION + CHAT.after


def test_the_chat_template_takes_plain_strings_and_turns(processor: Any) -> None:
    turns = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "What is it?"},
        {"role": "assistant", "content": "A square."},
        {"role": "user", "content": [{"type": "video"}, {"type": "text", "text": "And now?"}]},
    ]

    prompt = processor.apply_chat_template(turns, add_generation_prompt=True)

    assert prompt == "Be brief. USER: What is it? ASSISTANT:A square.</s>USER: <video>\nAnd now? ASSISTANT:"


def test_unseen_clips_are_captioned_to_the_word(model: Any, processor: Any) -> None:
    import torch

    from neva.shapes.clip_frames import read_clip_frames

    prompt = CHAT.before + "<image>" * FRAMES + CHAT.separator + DEFAULT_QUESTION + CHAT.after
    scenes = [random_scene(seed) for seed in UNSEEN_SEEDS]
    shown = [read_clip_frames(encode_clip(scene), FRAMES)[0] for scene in scenes]
    inputs = processor(
        text=[prompt] * len(scenes),
        images=[[Image.fromarray(frame) for frame in frames] for frames in shown],
        return_tensors="pt",
    )
    with torch.inference_mode():
        answers = model.generate(**inputs, max_new_tokens=24, do_sample=False)
    said = processor.tokenizer.batch_decode(answers[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)

    assert inputs["input_ids"].shape[1] == FRAMES * PATCHES + 10
    assert np.mean([a == caption_of(s) for a, s in zip(said, scenes, strict=True)]) >= 0.9, said


def test_the_model_card_names_its_scores() -> None:
    card = (FOLDER / "README.md").read_text()

    assert card.startswith("---\n")
    assert "license: apache-2.0" in card
    assert re.search(r"\| right to the word \| 9[89]\.\d+ % \||\| right to the word \| 100", card)
