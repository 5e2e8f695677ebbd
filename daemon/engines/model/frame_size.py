"""The frames that a model's processor has a use for: how large they are, and how many there are at least."""

import math
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from connectors.errors import Poison, Reason
from daemon.engines.library_errors import sentence
from daemon.engines.model.video_resize import CELL_PX, Kept, VideoResize
from daemon.frame_look import FrameSize, MaxFrameSize, PixelBudget
from daemon.prompts.prompt import Modality

_WIDEST = 16 / 9  # frames up to this aspect lose nothing; wider ones reach the processor a little small
_LARGEST_EDGE_PX = 4096  # a limit above it is none: hardly a frame is larger
_SMALLEST_PX = 32 * 32  # frames of so many pixels cost hardly more tokens than any smaller ones
_STEPS = (1.0, 1.01, 1.02, 1.04, 1.07, 1.1, 1.2, 1.4, 1.7, 2.0)  # edges above what is kept, tried in turn
_TRIES = 24  # sizes whose tokens are counted; from one to the next a frame loses a twentieth of its pixels at least
_TRIALS = ((4, FrameSize(160, 96)), (7, FrameSize(64, 224)))  # small windows whose tokens are counted
_CACHED_SIZES = 1024  # shapes of windows that are remembered; a stream of clips has a handful

Count = Callable[[int, FrameSize], int]  # the frames of a window and their size -> its vision tokens


def max_frame_size(processor: Any, modality: Modality) -> MaxFrameSize | None:
    """Return the size that the engine makes room for at most, whatever a frame's shape; None for the model's own.

    ``processor`` is a Hugging Face processor, of which a fixed size or a budget of pixels is read. What windows are
    scaled to, :class:`FrameSizes` says.
    """
    part = getattr(processor, f"{modality}_processor", None)
    size = getattr(part, "size", None)
    if size is None or modality == "image" or getattr(part, "do_center_crop", None):
        return None
    edge = _useful_edge(size if isinstance(size, Mapping) else vars(size))
    return MaxFrameSize(edge, edge) if edge is not None and edge <= _LARGEST_EDGE_PX else None


def _useful_edge(size: Mapping[str, Any]) -> int | None:
    """Return the longer edge of a 16:9 frame that fills what ``size`` describes: a fixed size or a pixel budget."""
    height, width, budget_px = (int(size.get(name) or 0) for name in ("height", "width", "longest_edge"))
    if height and width:
        return math.ceil(max(height, width) * _WIDEST)
    if budget_px > _LARGEST_EDGE_PX:  # Qwen's processors keep pixels under this name
        return math.ceil(math.sqrt(budget_px * _WIDEST))
    return None


def least_frames(processor: Any, modality: Modality) -> int:
    """Return how many frames a video must have: models that merge frames in pairs may refuse a single one."""
    part = getattr(processor, "video_processor", None)
    return int(getattr(part, "temporal_patch_size", None) or 1) if modality == "video" else 1


class FrameSizes:
    """The sizes that the frames of windows are scaled to before the model's processor gets them.

    Where the processor resizes whole frames, that is the size that it would give them itself, so its resize changes
    nothing; where giving it that size would have another outcome, it gets larger frames. Frames that it would enlarge
    go as they are. A model that crops or cuts images into tiles gets native size, as far as the budget allows.

    ``count`` returns the vision tokens of so many frames of a size, and may take as long as a window's preprocessing:
    it is asked only where they do not follow from the patches. Sizes are remembered, and any thread may ask.
    """

    def __init__(self, resize: VideoResize | None, least_frames: int = 1, count: Count | None = None) -> None:
        self._resize, self._least_frames, self._count = resize, least_frames, count
        self._patches_a_token: int | None = None  # 0 where tokens do not follow from patches
        self._sizes: dict[tuple[int, FrameSize, PixelBudget], FrameSize] = {}
        self._lock = threading.Lock()  # clips that begin at once have one shape more often than not

    def of(self, num_frames: int, own: FrameSize, budget: PixelBudget) -> FrameSize:
        """Return the size for a window of ``num_frames`` frames whose own size is ``own``.

        Raises:
            Poison: no frame is small enough for ``budget.max_vision_tokens``.
        """
        key = (num_frames, own, budget)
        with self._lock:
            if key not in self._sizes:
                if len(self._sizes) >= _CACHED_SIZES:
                    self._sizes.clear()
                self._sizes[key] = self._sized(num_frames, own, budget)
            return self._sizes[key]

    def _sized(self, num_frames: int, own: FrameSize, budget: PixelBudget) -> FrameSize:
        bounds = [budget.max_pixels]
        if budget.max_frame_tokens is not None:
            cell_px = CELL_PX if self._resize is None else self._resize.cell_px
            bounds.append(budget.max_frame_tokens * cell_px**2)
        max_pixels = min((bound for bound in bounds if bound is not None), default=None)
        size = self._fitted(num_frames, own, max_pixels)
        tokens = None if budget.max_vision_tokens is None else self.tokens(num_frames, size)
        if budget.max_vision_tokens is None or tokens is None or tokens <= budget.max_vision_tokens:
            return size
        return self._within_tokens(num_frames, own, size, tokens, budget.max_vision_tokens)

    def _fitted(self, num_frames: int, own: FrameSize, max_pixels: int | None) -> FrameSize:
        """Return the smallest of the sizes tried of which the processor makes what it makes of ``own``."""
        wanted = self._kept(num_frames, own)
        if wanted is not None and max_pixels is not None and wanted.size.pixels > max_pixels:
            wanted = self._kept(num_frames, own, max_pixels)
        if wanted is None:
            return own.within(max_pixels)
        for size in _candidates(own, wanted.size):
            if (max_pixels is None or size.pixels <= max_pixels) and self._kept(num_frames, size) == wanted:
                return size
        return own.within(max_pixels)

    def _kept(self, num_frames: int, size: FrameSize, max_pixels: int | None = None) -> Kept | None:
        if self._resize is None:
            return None
        return self._resize.kept(max(num_frames, self._least_frames), size, max_pixels)

    def tokens(self, num_frames: int, size: FrameSize) -> int | None:
        """Return how many tokens a window's frames of this size fill; None where nobody counts."""
        if self._count is None:
            return None
        try:
            return self._counted(num_frames, size, self._count)
        except (ValueError, RuntimeError) as error:  # what processors raise for frames they can't take
            frames = f"{num_frames} frames of {size.width} x {size.height}"
            detail = f"the model's processor refuses {frames}: {sentence(error)}"
            raise Poison(Reason.ENGINE_REFUSED, detail, origin="prompt") from error

    def _counted(self, num_frames: int, size: FrameSize, count: Count) -> int:
        kept = self._kept(num_frames, size)
        if kept is None or kept.patches is None:
            return count(num_frames, size)
        if self._patches_a_token is None:
            self._patches_a_token = self._patches_by_trial(count)
        return kept.patches // self._patches_a_token if self._patches_a_token else count(num_frames, size)

    def _patches_by_trial(self, count: Count) -> int:
        """Return how many patches make a token, by the true count of small frames; 0 where that is no rule."""
        ratios = set()
        for num_frames, size in _TRIALS:
            try:
                kept, tokens = self._kept(num_frames, size), count(num_frames, size)
            except (ValueError, RuntimeError):  # so few pixels are too few for it
                return 0
            patches = 0 if kept is None or kept.patches is None else kept.patches
            ratios.add(patches // tokens if tokens and patches % tokens == 0 else 0)
        return ratios.pop() if len(ratios) == 1 else 0

    def _within_tokens(self, num_frames: int, own: FrameSize, size: FrameSize, tokens: int, most: int) -> FrameSize:
        """Return a size that costs ``most`` tokens or less: tokens go with pixels, so a guess or two find it."""
        smallest = own.within(_SMALLEST_PX)
        fewest = self.tokens(num_frames, smallest) or 0
        if fewest > most:
            detail = (
                f"{num_frames} frames cost {fewest} vision tokens however small they are, and "
                f"frames.max_vision_tokens allows {most}: show fewer frames, or raise it"
            )
            raise Poison(Reason.OVER_CONTEXT, detail, origin="prompt")
        kept = self._kept(num_frames, size)
        max_pixels = (size if kept is None else kept.size).pixels * most // tokens
        for _ in range(_TRIES):
            size = self._fitted(num_frames, own, max_pixels)
            tokens = self.tokens(num_frames, size) or 0
            if tokens <= most:
                return size
            max_pixels = max_pixels * min(19 * tokens, 20 * most) // (20 * tokens)
        return smallest


def _candidates(own: FrameSize, kept: FrameSize) -> Iterator[FrameSize]:
    """Yield sizes from which a processor might come to what it keeps of ``own``, the likeliest first."""
    if kept.pixels >= own.pixels:
        yield own
        yield kept
        return
    yield kept
    scale = math.sqrt(kept.pixels / own.pixels)
    for step in _STEPS:
        larger = FrameSize(*(math.ceil(edge * scale * step) for edge in (own.width, own.height)))
        if kept.pixels <= larger.pixels < own.pixels:
            yield larger
    yield own


def normalises_unalike(processor: Any) -> bool:
    """Whether a Hugging Face processor shifts and scales the colours of videos otherwise than those of images."""
    image, video = (getattr(processor, f"{name}_processor", None) for name in ("image", "video"))
    if image is None or video is None:
        return False
    return any(
        list(getattr(image, name, None) or ()) != list(getattr(video, name, None) or ())
        for name in ("image_mean", "image_std")
    )
