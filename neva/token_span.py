"""The span of tokens that a video or image takes up in a prompt, and the media token that marks its place in a text.

A video of F frames is one span of exactly F x ``image_token_len`` embeddings: no separators, frames in time order,
patches row by row. A prompt without a media token is an error, and so is a prompt that is longer than the context.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from connectors.errors import Poison, Reason
from neva.conversations import IMAGE, VIDEO

MediaType = Literal["video", "image"]
Placement = Literal["left", "right"]


@dataclass(frozen=True, slots=True)
class SpanTokens:
    """The names of a span's tokens in one family's vocabulary."""

    patch: str = "<extra_id_3>"
    start: str = "<extra_id_4>"
    end: str = "<extra_id_5>"


_LLAMA_3 = SpanTokens("<|reserved_special_token_3|>", "<|reserved_special_token_4|>", "<|reserved_special_token_5|>")


def span_tokens_of(model_type: str) -> SpanTokens:
    """Return the names for ``mm_cfg.llm.model_type``: Llama 3 has its own, all others have ``extra_id`` tokens."""
    return _LLAMA_3 if model_type == "llama_3" else SpanTokens()


def media_token(media_type: MediaType) -> str:
    """Return the token that stands for a video or an image in a user's text."""
    return VIDEO if media_type == "video" else IMAGE


def image_token_len(crop_px: tuple[int, int], patch_px: int, projector: str = "linear") -> int:
    """Return how many embeddings one frame becomes.

    ``crop_px`` is the height and width of the tower's input, ``patch_px`` its patches' side, and ``projector`` is
    ``mm_mlp_adapter_type``: ``mlp_downsample`` joins 2 x 2 patches, padding odd rows and columns; others keep them.

    >>> [image_token_len((px, px), 14) for px in (224, 336, 384)]
    [256, 576, 729]
    >>> [image_token_len((px, px), 14, "mlp_downsample") for px in (224, 336, 384)]
    [64, 144, 196]
    """
    rows, columns = crop_px[0] // patch_px, crop_px[1] // patch_px
    if rows < 1 or columns < 1:
        raise ValueError(f"a crop of {crop_px} px holds no patch of {patch_px} px")
    if projector == "mlp_downsample":
        return ((rows + 1) // 2) * ((columns + 1) // 2)
    return rows * columns


@dataclass(frozen=True, slots=True)
class MediaSpan:
    """A span's token ids; embeddings take the places of those in ``[first_slot, first_slot + embeddings)``."""

    ids: tuple[int, ...]
    first_slot: int
    embeddings: int


def media_span(patch: int, start: int, end: int, embeddings: int, *, use_im_start_end: bool) -> MediaSpan:
    """Return the span of ``embeddings`` embeddings as token ids.

    With ``use_im_start_end`` the start and end tokens stay around the embeddings; otherwise embeddings take their
    places too.
    """
    if embeddings < 1 or (embeddings < 2 and not use_im_start_end):
        raise ValueError(f"a span of {embeddings} embeddings has no room")
    inner = embeddings if use_im_start_end else embeddings - 2
    return MediaSpan((start, *[patch] * inner, end), int(use_im_start_end), embeddings)


def insert_media_token(
    text: str, placement: Placement | None, media_type: MediaType = "video", *, separate: bool = False
) -> str:
    """Return the user's text with its media token put to the ``left`` or ``right``; None where the text has its own.

    ``separate`` (NeVA's ``add_media_sep``) puts a space and a newline behind the token.

    Raises:
        Poison: reason ``prompt``; the result has no media token, or more than one.
    """
    token = media_token(media_type)
    placed = token + (" \n" if separate else "")
    if placement == "left":
        text = placed + text
    elif placement == "right":
        text += placed
    if (count := text.count(token)) != 1:
        hint = "set inference.insert_media_token=left or right" if count == 0 else "it must stand there once"
        raise Poison(Reason.PROMPT, f"the prompt shows {token} {count} times: {hint}", origin="prompt")
    other = media_token("image" if media_type == "video" else "video")
    if other in text:
        raise Poison(Reason.PROMPT, f"the prompt shows {other}, but its media is a {media_type}", origin="prompt")
    return text


def marked(text: str, model_type: str = "", media_type: MediaType = "video") -> str:
    """Return the text with the start and end tokens around its media token, as ``use_im_start_end`` has them."""
    names, token = span_tokens_of(model_type), media_token(media_type)
    return text.replace(token, f"{names.start}{token}{names.end}")


def encode_with_span(
    before: Sequence[int], span: MediaSpan, after: Sequence[int], encoder_seq_length: int
) -> list[int]:
    """Return a prompt's ids with its span in place.

    Raises:
        Poison: reason ``over_context``; the prompt is longer than the context and would be truncated.
    """
    ids = [*before, *span.ids, *after]
    if len(ids) > encoder_seq_length:
        detail = (
            f"{len(ids)} prompt tokens, {span.embeddings} of them frames, are more than the model's "
            f"{encoder_seq_length} (encoder_seq_length); fewer or smaller frames need fewer"
        )
        raise Poison(Reason.OVER_CONTEXT, detail, origin="prompt")
    return ids
