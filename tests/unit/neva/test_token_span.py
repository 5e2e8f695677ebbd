"""The tokens of frames: how many they are, where they go, and what is refused."""

import pytest

from connectors.errors import Poison
from neva.conversations import render
from neva.token_span import (
    encode_with_span,
    image_token_len,
    insert_media_token,
    marked,
    media_span,
    span_tokens_of,
)

PATCH, START, END = 32003, 32004, 32005


@pytest.mark.parametrize(
    ("crop_px", "kept", "joined"), [(224, 256, 64), (336, 576, 144), (384, 729, 196), (56, 16, 4), (14, 1, 1)]
)
def test_image_token_len(crop_px: int, kept: int, joined: int) -> None:
    for projector in ("linear", "mlp2x_gelu", "mlp3x_gelu", "identity"):
        assert image_token_len((crop_px, crop_px), 14, projector) == kept
    assert image_token_len((crop_px, crop_px), 14, "mlp_downsample") == joined


def test_image_token_len_of_a_crop_that_is_not_square() -> None:
    assert image_token_len((56, 28), 14) == 8
    assert image_token_len((42, 70), 14, "mlp_downsample") == 6


def test_a_crop_below_a_patch_is_refused() -> None:
    with pytest.raises(ValueError, match="no patch of 14 px"):
        image_token_len((13, 224), 14)


def test_a_span_is_exactly_its_embeddings() -> None:
    inside = media_span(PATCH, START, END, 8 * 256, use_im_start_end=False)
    around = media_span(PATCH, START, END, 8 * 256, use_im_start_end=True)

    assert (len(inside.ids), inside.first_slot) == (2048, 0)
    assert (len(around.ids), around.first_slot) == (2050, 1)
    for span in (inside, around):
        assert (span.ids[0], span.ids[-1]) == (START, END)
        assert set(span.ids[1:-1]) == {PATCH}
        assert span.embeddings == 2048


def test_names_in_the_vocabularies() -> None:
    assert span_tokens_of("v1").patch == "<extra_id_3>"
    assert span_tokens_of("llama_3").end == "<|reserved_special_token_5|>"


@pytest.mark.parametrize(
    ("text", "placement", "separate", "expected"),
    [
        ("Describe.", "left", False, "<video>Describe."),
        ("Describe.", "right", False, "Describe.<video>"),
        ("Describe.", "left", True, "<video> \nDescribe."),
        ("Describe.", "right", True, "Describe.<video> \n"),
        ("Describe.\n<video>", None, False, "Describe.\n<video>"),
        ("Describe.\n<video>", None, True, "Describe.\n<video>"),
    ],
)
def test_placement(text: str, placement: str, separate: bool, expected: str) -> None:
    assert insert_media_token(text, placement, separate=separate) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "placement", "media_type"),
    [
        ("Describe.", None, "video"),
        ("<video>Describe.", "left", "video"),
        ("<video>Describe.<video>", None, "video"),
        ("Describe.", None, "image"),
        ("<video>Describe.", None, "image"),
        ("<video>Describe.", "left", "image"),
        ("<image>Describe.", "left", "video"),
    ],
)
def test_a_prompt_without_its_one_media_token_is_an_error(text: str, placement: str, media_type: str) -> None:
    with pytest.raises(Poison, match="the prompt shows") as fault:
        insert_media_token(text, placement, media_type)  # type: ignore[arg-type]

    assert fault.value.reason == "prompt"


def test_marks_stay_around_the_frames() -> None:
    assert marked("<video>Q") == "<extra_id_4><video><extra_id_5>Q"
    assert marked("<image>Q", media_type="image") == "<extra_id_4><image><extra_id_5>Q"
    assert "<|reserved_special_token_4|><video><|reserved_special_token_5|>Q" in render(
        "llama_3", marked("<video>Q", "llama_3")
    )


def test_a_span_cut_by_the_context_is_an_error() -> None:
    span = media_span(PATCH, START, END, 16, use_im_start_end=False)

    assert len(encode_with_span([1, 2], span, [3], 19)) == 19
    with pytest.raises(Poison, match="19 prompt tokens, 16 of them frames, are more than the model's 18") as fault:
        encode_with_span([1, 2], span, [3], 18)
    assert fault.value.reason == "over_context"
