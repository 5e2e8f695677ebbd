"""A clip being captioned: the window it is at, what failed so far, and its captions."""

import itertools
from dataclasses import dataclass, field, replace

from connectors.contract import Caption, CaptionStatus, Clip, Delivery, FramesShown, Progress, Usage, WindowSpan
from connectors.errors import Poison, Transient
from daemon.config.clip_settings import ClipSettings, digest
from daemon.decoding.sampler import UnreadableWindow
from daemon.engines.contract import Completion
from daemon.windows import FrameSet, Window

_REQUESTS = itertools.count()


@dataclass(eq=False)
class ClipTask:
    """A delivery being captioned.

    ``next_window`` moves with each publish, ``attempts`` counts failures in a row, and ``in_engine`` how many of its
    windows the engine holds now. ``media_start_ns`` is the plan's, once there is one.
    """

    delivery: Delivery
    settings: ClipSettings
    model_id: str
    plan_hash: str = field(init=False)
    next_window: int = field(init=False)
    attempts: int = 0
    in_engine: int = 0
    media_start_ns: int = 0

    def __post_init__(self) -> None:
        self.plan_hash = self.settings.plan_hash(self.model_id)
        fits = self.delivery.position.plan_hash == self.plan_hash
        self.next_window = self.delivery.position.next_window if fits else 0

    @property
    def clip(self) -> Clip:
        """The clip itself."""
        return self.delivery.clip

    def fit(self, windows: int) -> None:
        """Start again where the position lies behind the plan's end: no caption stands for what it leaves out."""
        if self.next_window > windows:
            self.next_window = 0

    def request_id(self, window: Window) -> str:
        """Name the request for one window in the engine; no two requests have the same name."""
        return f"{self.clip.clip_id}/{window.index}/{next(_REQUESTS)}"

    def advance(self, captions: list[Caption], *, last: bool) -> Progress:
        """Return the progress that publishes the next captions."""
        return Progress(self.delivery, captions, self.next_window + len(captions), self.plan_hash, last)

    def published(self, progress: Progress) -> None:
        """Note that a progress is durable. Getting on means that what failed before has passed."""
        self.next_window = progress.next_window
        if progress.captions:
            self.attempts = 0

    def rejected(self, fault: Poison) -> Progress:
        """Return the progress that ends the clip with a rejection."""
        return Progress.rejected(
            self.delivery, fault, next_window=self.next_window, plan_hash=self.plan_hash, attempts=self.attempts + 1
        )

    def failed(self, fault: Transient, max_attempts: int) -> None:
        """Count a failure; :class:`Poison` once it is one too many without a window in between."""
        self.attempts += 1
        if self.attempts >= max_attempts:
            detail = f"{fault.detail} (tried {self.attempts} times)"
            self.attempts -= 1
            raise Poison(fault.reason, detail, origin=fault.origin or "sampler") from fault

    def caption(self, frames: FrameSet, done: Completion) -> Caption:
        """Return the caption of a window that the engine answered."""
        text = done.text.strip()
        status = CaptionStatus.TRUNCATED if done.truncated else CaptionStatus.SUCCESS
        shown = FramesShown(
            frames.pts_ns,
            len(set(frames.pts_ns)),
            frames.substituted,
            self.settings.frames.snap,
            frames.frames.shape[2],
            frames.frames.shape[1],
        )
        usage = Usage(done.prompt_tokens, done.vision_tokens, done.output_tokens)
        timing = {"decode": frames.decode_ms, "queue": done.queue_ms, "engine": done.engine_ms}
        if done.render_ms:
            timing |= {"render_queue": done.render_queue_ms, "render": done.render_ms}
        detail = done.detail
        if not text and done.truncated:
            detail = detail or "the answer was cut off at generation.max_tokens before its first word"
        elif not text:
            status = CaptionStatus.EMPTY
        caption = self._caption(frames.window, text, status, usage, shown, timing, detail)
        return caption if self.settings.prompt.logprobs is None else replace(caption, logprobs=done.logprobs)

    def unreadable(self, window: UnreadableWindow) -> Caption:
        """Return the caption that stands for a window whose frames can't be read, with readable ones after it."""
        return self._caption(window.window, "", CaptionStatus.ERROR, Usage(), FramesShown(), {}, window.detail)

    def _caption(
        self,
        window: Window,
        text: str,
        status: CaptionStatus,
        usage: Usage,
        shown: FramesShown,
        timing_ms: dict[str, float],
        detail: str = "",
    ) -> Caption:
        prompt_hash = self.settings.prompt.hash
        span = WindowSpan(window.index, window.start_ns, window.exclusive_end_ns)
        caption_id = digest(
            self.clip.clip_id,
            span.start_ns,
            span.exclusive_end_ns,
            self.model_id,
            prompt_hash,
            self.settings.sampler_hash,
        )
        return Caption(
            caption_id,
            self.clip.clip_id,
            self.clip.source,
            span,
            text,
            status,
            self.model_id,
            prompt_hash,
            self.plan_hash,
            usage,
            shown,
            {name: round(ms, 3) for name, ms in timing_ms.items()},
            detail,
            media_start_ns=self.media_start_ns,
        )
