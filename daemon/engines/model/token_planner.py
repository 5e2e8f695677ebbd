"""The tokens that a window will cost, from a model's processor and configuration alone: no weights are loaded."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from connectors.errors import Poison, Reason
from daemon.engines.library_errors import sentence
from daemon.engines.model.frame_size import FrameSizes
from daemon.engines.model.media_form import MediaForm
from daemon.frame_look import FrameSize, MaxFrameSize, PixelBudget
from daemon.prompts.prompt import Prompt, PromptEncoder

_NOMINAL_STEP_MS = 1000  # between frames, where nobody says when they are shown
_FAR_MS = 36_000_000  # ten hours
_CACHED_PLANS = 1024  # shapes of windows that are remembered; a stream of clips has a handful


@dataclass(frozen=True, slots=True)
class PlannedTokens:
    """A request's tokens: the whole prompt, and those of it that frames fill."""

    prompt_tokens: int
    vision_tokens: int


class TokenPlanner(Protocol):
    """Plans the prompt of a window from its shape.

    ``max_model_len`` is None where nothing is known, and ``max_frame_size``, what the engine makes room for, where that
    is the model's own say.
    """

    max_model_len: int | None
    max_frame_size: MaxFrameSize | None

    def frame_size(self, num_frames: int, own: FrameSize, budget: PixelBudget) -> FrameSize:
        """Return the size that a window's frames, whose own size is ``own``, are scaled to for the model.

        It may take as long as a window's preprocessing, and any thread may ask. :class:`Poison` where no size is small
        enough.
        """
        ...

    def vision_tokens(self, num_frames: int, size: FrameSize) -> int | None:
        """Return how many of a prompt's tokens its frames fill; None where nobody knows."""
        ...

    def prompt_tokens(
        self, num_frames: int, height: int, width: int, prompt: Prompt, offsets_ms: tuple[int, ...] | None = None
    ) -> int | None:
        """Return how many tokens the prompt will have; None for a remote engine. ``offsets_ms``: when frames show."""
        ...

    def writes_times(self, num_frames: int, height: int, width: int, prompt: Prompt) -> bool:
        """Return whether the model writes the times of frames into its prompt, so that they decide its length."""
        ...

    def check(
        self, prompt: Prompt, num_frames: int, height: int, width: int, offsets_ms: tuple[int, ...] | None = None
    ) -> None:
        """Raise :class:`Poison` for a window whose prompt does not fit the template or the model's context."""
        ...


Check = Callable[[TokenPlanner], None]  # of a configuration, as soon as the model's processor is known


def check_context(prompt_tokens: int, max_tokens: int, max_model_len: int) -> None:
    """Raise :class:`Poison` where prompt and answer together pass the model's context."""
    if prompt_tokens + max_tokens > max_model_len:
        detail = (
            f"{prompt_tokens} prompt tokens + generation.max_tokens {max_tokens} = {prompt_tokens + max_tokens} "
            f"are more than the model's {max_model_len} (engine.max_model_len); fewer or smaller frames need fewer"
        )
        raise Poison(Reason.OVER_CONTEXT, detail, origin="prompt")


class EncoderBudget:
    """How many tokens of one video or image the engine takes at once, which is how large its cache for them is.

    It is ``at_least`` so many, the tokens of a batch; ``exact`` asks the engine's own reckoning, which costs a run of
    the processor, so it is asked about larger windows alone, and once.
    """

    def __init__(self, at_least: int, exact: Callable[[], int]) -> None:
        self.at_least, self._exact = at_least, exact
        self._known: int | None = None

    def check(self, tokens: int) -> None:
        """Raise :class:`Poison` where a video or an image of so many tokens is more than the engine takes."""
        if tokens <= self.at_least:
            return
        if self._known is None:
            self._known = max(self._exact(), self.at_least)
        if tokens > self._known:
            detail = (
                f"its frames fill {tokens} tokens, and the engine takes {self._known} of one video or image "
                "(engine.args.max_num_batched_tokens); fewer or smaller frames need fewer"
            )
            raise Poison(Reason.OVER_CONTEXT, detail, origin="prompt")


class ModelTokenPlanner:
    """Plans with the model's own processor: black frames of the right shape go through it, and tokens are counted.

    ``process(ids, media)`` is the processor; it returns the widened token ids and how many of them frames fill.
    """

    def __init__(
        self,
        encoder: PromptEncoder,
        form: MediaForm,
        process: Callable[[list[int], Any], tuple[int, int]],
        *,
        max_model_len: int,
        max_frame_size: MaxFrameSize | None,
        encoder_budget: EncoderBudget | None = None,
        sizes: FrameSizes | None = None,
    ) -> None:
        self.encoder, self.form, self._process = encoder, form, process
        self.encoder_budget = encoder_budget  # None: it is not known, and nothing is refused for it
        self.max_model_len: int | None = max_model_len
        self.max_frame_size = max_frame_size
        self._sizes = sizes or FrameSizes(None)
        self._plans: dict[tuple[object, ...], PlannedTokens] = {}
        self._times_count: bool | None = False if form.modality == "image" else None

    def plan(
        self, num_frames: int, height: int, width: int, prompt: Prompt, offsets_ms: tuple[int, ...] | None = None
    ) -> PlannedTokens:
        """Return what a window of ``num_frames`` frames of ``height`` x ``width`` costs.

        ``offsets_ms`` (milliseconds from the window's start) matters to models that write the times into the prompt;
        without it frames are taken to be a second apart.
        """
        offsets = tuple(k * _NOMINAL_STEP_MS for k in range(num_frames))
        if offsets_ms is not None and self.writes_times(num_frames, height, width, prompt):
            offsets = offsets_ms
        key = (num_frames, height, width, prompt.wording, offsets)
        if key not in self._plans:
            if len(self._plans) >= _CACHED_PLANS:
                self._plans.clear()
            self._plans[key] = self._plan(num_frames, height, width, prompt, offsets)
        return self._plans[key]

    def writes_times(self, num_frames: int, height: int, width: int, prompt: Prompt) -> bool:
        """Return whether the prompt's length follows the frames' times: asked once, with few and with many digits."""
        if self._times_count is None:
            near = tuple(k * _NOMINAL_STEP_MS for k in range(num_frames))
            far = tuple(_FAR_MS + at for at in near)
            lengths = {self._plan(num_frames, height, width, prompt, at).prompt_tokens for at in (near, far)}
            self._times_count = len(lengths) > 1
        return self._times_count

    def _plan(
        self, num_frames: int, height: int, width: int, prompt: Prompt, offsets: tuple[int, ...]
    ) -> PlannedTokens:
        ids = self.encoder.encode(prompt, self.form.items(num_frames))
        black = np.zeros((num_frames, height, width, 3), np.uint8)
        media = self.form.media(black, offsets, offsets[-1] + _NOMINAL_STEP_MS)
        try:
            return PlannedTokens(*self._process(ids, media))
        except (ValueError, RuntimeError) as error:  # what processors raise for frames they can't take
            detail = f"the model's processor refuses {num_frames} frames of {width} x {height}: {sentence(error)}"
            raise Poison(Reason.ENGINE_REFUSED, detail, origin="prompt") from error

    def frame_size(self, num_frames: int, own: FrameSize, budget: PixelBudget) -> FrameSize:
        """Return the size that a window's frames are scaled to; see :class:`TokenPlanner`."""
        return self._sizes.of(num_frames, own, budget)

    def vision_tokens(self, num_frames: int, size: FrameSize) -> int | None:
        """Return how many of a prompt's tokens its frames fill."""
        return self._sizes.tokens(num_frames, size)

    def prompt_tokens(
        self, num_frames: int, height: int, width: int, prompt: Prompt, offsets_ms: tuple[int, ...] | None = None
    ) -> int | None:
        """Return how many tokens the prompt will have: what the engine reports for it."""
        return self.plan(num_frames, height, width, prompt, offsets_ms).prompt_tokens

    def check(
        self, prompt: Prompt, num_frames: int, height: int, width: int, offsets_ms: tuple[int, ...] | None = None
    ) -> None:
        """Raise :class:`Poison` for a window whose prompt does not fit the template, the context or the encoder."""
        self.check_planned(self.plan(num_frames, height, width, prompt, offsets_ms), num_frames, prompt)

    def check_planned(self, planned: PlannedTokens, num_frames: int, prompt: Prompt) -> None:
        """Raise :class:`Poison` where a window of so many tokens does not fit the context or the encoder."""
        if self.max_model_len is not None:
            check_context(planned.prompt_tokens, prompt.max_tokens, self.max_model_len)
        if self.encoder_budget is not None:
            self.encoder_budget.check(planned.vision_tokens // self.form.items(num_frames))


class RemoteTokenPlanner:
    """Plans nothing, for the model is on another machine: its server counts, and refuses what it can't take.

    ``max_model_len`` is what the server says of the model, where it does.
    """

    max_model_len: int | None = None
    max_frame_size: MaxFrameSize | None = None
    _sizes = FrameSizes(None)

    def frame_size(self, num_frames: int, own: FrameSize, budget: PixelBudget) -> FrameSize:
        """Return a size of as many pixels as are allowed; the server scales to its own from there."""
        return self._sizes.of(num_frames, own, budget)

    def vision_tokens(self, num_frames: int, size: FrameSize) -> int | None:
        return None

    def prompt_tokens(
        self, num_frames: int, height: int, width: int, prompt: Prompt, offsets_ms: tuple[int, ...] | None = None
    ) -> int | None:
        return None

    def writes_times(self, num_frames: int, height: int, width: int, prompt: Prompt) -> bool:
        return False

    def check(
        self, prompt: Prompt, num_frames: int, height: int, width: int, offsets_ms: tuple[int, ...] | None = None
    ) -> None:
        """Raise :class:`Poison` where an answer alone fills the model's context."""
        if self.max_model_len is not None and prompt.max_tokens >= self.max_model_len:
            detail = (
                f"generation.max_tokens {prompt.max_tokens} fills the model's context of {self.max_model_len} tokens"
            )
            raise Poison(Reason.OVER_CONTEXT, detail, origin="prompt")
