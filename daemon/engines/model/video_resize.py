"""The resize of a model's own video processor, asked without pixels.

The processor runs over tensors that have a shape and nothing else (torch's ``meta`` device), which takes a millisecond
or two, so whatever its authors compute is what is known here.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from daemon.frame_look import FrameSize
from daemon.prompts.prompt import Modality

CELL_PX = 28  # the side of what one token of a frame covers, where the processor does not say it: Qwen2.5-VL's
_NOT_ASKED = frozenset({"device", "do_sample_frames", "fps", "num_frames", "return_metadata", "return_tensors"})
_CELLS = 4096  # a budget of pixels is tried with so many cells: between the floors and the caps of the families
_FEW, _MANY = 4, 16  # frames of which a budget for the whole video leaves each a different share


@dataclass(frozen=True, slots=True)
class Kept:
    """The size that a processor gives the frames of a video, and the shapes of all that it makes of them."""

    size: FrameSize
    shapes: tuple[tuple[str, tuple[int, ...]], ...]

    @property
    def patches(self) -> int | None:
        """How many patches the frames are cut into, where the processor makes a row of each."""
        rows = [shape[0] for name, shape in self.shapes if name.startswith("pixel_values") and len(shape) == 2]
        return rows[0] if len(rows) == 1 else None


class VideoResize:
    """The resize of one video processor, with the settings that it is called with.

    ``settings`` are its keyword arguments in the engine (``engine.args.mm_processor_kwargs``).
    """

    def __init__(self, processor: Any, settings: Mapping[str, Any]) -> None:
        known = frozenset(processor.valid_kwargs.__annotations__) - _NOT_ASKED
        self._processor = processor
        self._settings = {name: value for name, value in settings.items() if name in known}
        self._size = _merged_size(processor, settings)
        if self._size:
            self._settings["size"] = self._size
        self._settings = {k: v for k, v in self._settings.items() if k not in ("min_pixels", "max_pixels")}

    @classmethod
    def of(cls, hf_processor: Any, modality: Modality, settings: Mapping[str, Any]) -> "VideoResize | None":
        """Return the resize of a Hugging Face processor's videos; None where it has none that can be asked."""
        processor = getattr(hf_processor, "video_processor", None)
        is_known = all(hasattr(processor, name) for name in ("resize", "preprocess", "valid_kwargs"))
        return cls(processor, settings) if modality == "video" and is_known else None

    @property
    def cell_px(self) -> int:
        """The side of the square that one token covers of a frame by itself."""
        patch, merge = (self._said(name) for name in ("patch_size", "merge_size"))
        return patch * merge if isinstance(patch, int) and isinstance(merge, int) else CELL_PX

    def _said(self, name: str) -> Any:
        return self._settings.get(name, getattr(self._processor, name, None))

    def kept(self, num_frames: int, given: FrameSize, max_pixels: int | None = None) -> Kept | None:
        """Return what the processor makes of ``num_frames`` frames; None where it refuses them.

        None too where it does not resize the whole frames once, for then their size alone does not say what it keeps.
        With ``max_pixels`` its own rule is asked for so many pixels a frame; without a rule of pixels that is ignored.
        """
        budget_px = self._size.get("longest_edge")
        if max_pixels is not None and isinstance(budget_px, int) and self._budget is not None:
            bound = max_pixels * (num_frames if self._budget == "video" else 1)
            return self._asked(num_frames, given, min(budget_px, bound))
        return self._asked(num_frames, given)

    @cached_property
    def _budget(self) -> str | None:
        """Whether ``size.longest_edge`` is a budget of pixels for a ``frame`` or for the ``video``, by trying it."""
        budget_px = _CELLS * self.cell_px**2
        huge = FrameSize(2 * 64 * self.cell_px, 2 * 64 * self.cell_px)
        few, many = (self._asked(number, huge, budget_px) for number in (_FEW, _MANY))
        if few is None or many is None or few.size.pixels > budget_px:
            return None
        if few.size == many.size:
            return "frame" if few.size.pixels > budget_px // 2 else None
        return "video" if many.size.pixels < few.size.pixels else None

    def _asked(self, num_frames: int, given: FrameSize, budget_px: int | None = None) -> Kept | None:
        import torch

        calls: list[tuple[tuple[int, ...], tuple[int, ...]]] = []
        processor = copy.copy(self._processor)

        def resize(*args: Any, **named: Any) -> Any:
            before = next(value for value in (*args, *named.values()) if isinstance(value, torch.Tensor))
            after = self._processor.resize(*args, **named)
            calls.append((tuple(before.shape[-2:]), tuple(after.shape[-2:])))
            return after

        processor.resize = resize
        settings = dict(self._settings)
        if budget_px is not None:
            settings["size"] = {**self._size, "longest_edge": budget_px}
        frames = torch.empty((num_frames, 3, given.height, given.width), dtype=torch.uint8, device="meta")
        try:
            made = processor.preprocess(
                frames, do_sample_frames=False, input_data_format="channels_first", return_tensors="pt", **settings
            )
        except Exception:  # another author's program: what it can't do without pixels is not known here
            return None
        if len(calls) != 1 or calls[0][0] != (given.height, given.width):
            return None
        height, width = calls[0][1]
        shapes = tuple((name, tuple(value.shape)) for name, value in made.items() if isinstance(value, torch.Tensor))
        return Kept(FrameSize(width, height), shapes)


def _merged_size(processor: Any, settings: Mapping[str, Any]) -> dict[str, int]:
    """Return the processor's ``size`` under what the settings say of it, in either of Qwen's spellings."""
    own, given = (dict(size or {}) for size in (getattr(processor, "size", None), settings.get("size")))
    names = {"shortest_edge": settings.get("min_pixels"), "longest_edge": settings.get("max_pixels")}
    merged = own | given | {name: value for name, value in names.items() if value is not None}
    return {name: value for name, value in merged.items() if value is not None}
