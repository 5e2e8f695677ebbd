"""A clip being captioned: the window it is at, what failed so far, and its captions."""

import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from connectors.contract import (
    ATTRIBUTE,
    Caption,
    CaptionStatus,
    Clip,
    Delivery,
    FramesShown,
    Progress,
    SameAs,
    Unasked,
    Usage,
    WindowSpan,
)
from connectors.errors import EmptySpan, Poison, Reason, Transient
from daemon.answers.asking import Asked
from daemon.answers.context import WindowsBefore
from daemon.config.clip_settings import ClipSettings, digest
from daemon.decoding.sampler import UnreadableWindow
from daemon.prompts.places import ATTRIBUTES, filled
from daemon.prompts.prompt import Prompt
from daemon.windows import FrameSet, Window

_REQUESTS = itertools.count()
_DAMAGED = (Reason.CORRUPT, Reason.NO_FRAMES, Reason.TRUNCATED)


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
    stages_ms: dict[str, float] = field(default_factory=dict)  # of a stream's window: from its arrival to its plan
    before: WindowsBefore = field(init=False)  # what the questions are told, as far as it is durable

    def __post_init__(self) -> None:
        self.plan_hash = self.settings.plan_hash(self.model_id)
        fits = self.delivery.position.plan_hash == self.plan_hash
        self.next_window = self.delivery.position.next_window if fits else 0
        told = max(prompt.context_windows for prompt in self.settings.questions)
        durable = [one for one in self.delivery.position.before if fits and one.window.index < self.next_window]
        self.before = WindowsBefore(told, durable)
        self.is_in_order = told > 0  # each window is told what was said of those before
        if (stream := self.clip.stream) is not None and self.clip.unasked is None:
            handed_out_ns = self.clip.received_ns
            self.stages_ms["record"] = max(0, handed_out_ns - stream.arrived_ns) / 1e6
            self.stages_ms["wait"] = max(0, time.time_ns() - handed_out_ns) / 1e6

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
        return Progress(self.delivery, captions, self.reached(captions), self.plan_hash, last)

    def reached(self, captions: list[Caption]) -> int:
        """Return the window to go on at once the next captions are durable: each window has one a question."""
        return self.next_window + len(captions) // len(self.settings.questions)

    def published(self, progress: Progress) -> None:
        """Note that a progress is durable. Getting on means that what failed before has passed."""
        self.next_window = progress.next_window
        if progress.captions:
            self.attempts = 0
            self.before.add(progress.captions)

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

    def question(self, prompt: Prompt, frames: FrameSet, told: Sequence[Caption] = ()) -> Prompt:
        """Return a question as one window is asked it."""
        if not prompt.places:
            return prompt
        window, clip = frames.window, self.clip

        def value_of(name: str) -> str:
            if name.startswith(ATTRIBUTES):
                return self._attribute(name)
            match name:
                case "source":
                    return clip.source
                case "clip":
                    return clip.media.name
                case "start" | "end" | "duration":
                    ends = {"start": (0, window.start_ns), "end": (0, window.exclusive_end_ns)}
                    since_ns, until_ns = ends.get(name, (window.start_ns, window.exclusive_end_ns))
                    return _seconds(until_ns - since_ns)
                case "timestamps":
                    return ", ".join(map(_seconds, frames.pts_ns))
                case "num_frames":
                    return str(len(frames.pts_ns))
                case _:
                    return "\n".join(caption.text for caption in told)

        return filled(prompt, value_of)

    def caption(self, frames: FrameSet, prompt: Prompt, asked: Asked, told: Sequence[Caption] = ()) -> Caption:
        """Return the caption of a window that the engine answered."""
        done, said = asked.done, asked.said
        usage = Usage(done.prompt_tokens, done.vision_tokens, done.output_tokens, done.reasoning_tokens)
        timing = {**self.stages_ms, "decode": frames.decode_ms, "queue": done.queue_ms, "engine": done.engine_ms}
        if done.render_ms:
            timing |= {"render_queue": done.render_queue_ms, "render": done.render_ms}
        caption = self._caption(
            frames.window, said.text, said.status, usage, self._shown(frames), timing, said.detail, prompt, told
        )
        if said.reason or said.data is not None or asked.attempts:
            caption = replace(caption, data=said.data, reason=said.reason, attempts=asked.attempts)
        return caption if prompt.logprobs is None else replace(caption, logprobs=done.logprobs)

    def _shown(self, frames: FrameSet) -> FramesShown:
        return FramesShown(
            frames.pts_ns,
            len(set(frames.pts_ns)),
            frames.substituted,
            self.settings.frames.snap,
            frames.frames.shape[2],
            frames.frames.shape[1],
        )

    def unasked(self, frames: FrameSet, picture: str) -> list[Caption]:
        """Return the captions of a window about whose picture the model is not asked."""
        detail = f"the picture is {picture}: the model was not asked"
        made = partial(self._caption, frames.window, "", CaptionStatus.EMPTY, Usage(), self._shown(frames))
        captions = (made({"decode": frames.decode_ms}, detail, prompt) for prompt in self.settings.questions)
        return [replace(caption, input=picture) for caption in captions]

    def unchanged(self, frames: FrameSet, same: Sequence[Caption]) -> list[Caption]:
        """Return the captions of a window that shows what a described one showed, whose captions these are."""
        timing, shown, found = {"decode": frames.decode_ms}, self._shown(frames), []
        for prompt, said in zip(self.settings.questions, same, strict=True):
            made = self._caption(frames.window, said.text, CaptionStatus.UNCHANGED, Usage(), shown, timing, "", prompt)
            found.append(replace(made, data=said.data, same_as=SameAs(said.caption_id, said.text)))
        return found

    def unreadable(self, window: UnreadableWindow) -> list[Caption]:
        """Return the captions that stand for a window whose frames can't be read, with readable ones after it."""
        made = partial(self._caption, window.window, "", CaptionStatus.ERROR, Usage(), FramesShown(), {}, window.detail)
        captions = [made(prompt) for prompt in self.settings.questions]
        if "unreadable" in self.settings.unasked:
            return [replace(caption, input="unreadable") for caption in captions]
        return captions

    def unasked_windows(self, why: Unasked) -> list[Caption]:
        """Return the captions of a clip, whose window is one of a stream, that has nothing to ask a model about."""
        stream = self.clip.stream
        assert stream is not None  # noqa: S101 - no other clips are unasked
        start_ns, end_ns = self.clip.span_ns or (0, stream.exclusive_end_ns - stream.start_ns)
        window = Window(0, start_ns, end_ns, (start_ns,), (0,))
        made = partial(self._caption, window, "", why.status, Usage(), FramesShown(), self.stages_ms, why.detail)
        return [replace(made(prompt), reason=why.reason) for prompt in self.settings.questions]

    def failed_windows(self, fault: Poison) -> list[Caption]:
        """Return the captions of a stream's window that can't be described: its index has a message all the same.

        Where a connection broke off, a damaged frame may be all that came: that is a gap too, and no error.
        """
        stream = self.clip.stream
        is_remnant = stream is not None and stream.is_mostly_missing and fault.reason in _DAMAGED
        empty = self.clip.when_empty if is_remnant or isinstance(fault, EmptySpan) else None
        return self.unasked_windows(empty or Unasked(CaptionStatus.ERROR, fault.reason, fault.detail))

    def _caption(
        self,
        window: Window,
        text: str,
        status: CaptionStatus,
        usage: Usage,
        shown: FramesShown,
        timing_ms: dict[str, float],
        detail: str,
        prompt: Prompt,
        told: Sequence[Caption] = (),
    ) -> Caption:
        prompt_hash, stream = prompt.hash, self.clip.stream
        span = WindowSpan(window.index, window.start_ns, window.exclusive_end_ns)
        identified = span if stream is None else stream  # what is recorded before a window may be there or not
        caption_id = digest(
            self.clip.clip_id,
            identified.start_ns,
            identified.exclusive_end_ns,
            self.model_id,
            prompt_hash,
            self.settings.sampler_hash,
            *self._told_beside(prompt, told),
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
            prompt=prompt.name,
            context_windows=len({one.window.index for one in told}) if prompt.context_windows else None,
            stream=stream,
        )

    def _attribute(self, place: str) -> str:
        """Return what a sender said of the clip under a name; nothing where nobody did."""
        return self.clip.attributes.get(ATTRIBUTE + place.removeprefix(ATTRIBUTES), "")

    def _told_beside(self, prompt: Prompt, told: Sequence[Caption]) -> list[str]:
        """Return what a caption's id covers beside the question: attributes of the clip, and captions before."""
        if not (prompt.places or told):
            return []
        names = [name for name in prompt.places if name.startswith(ATTRIBUTES)]
        return [*map(self._attribute, names), *(caption.caption_id for caption in told)]


def _seconds(ns: int) -> str:
    """Return a time in seconds, to the millisecond."""
    return f"{ns / 1e9:.3f}".rstrip("0").rstrip(".")
