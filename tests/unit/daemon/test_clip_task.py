"""A clip begins at a window that its plan has, whatever position it came with."""

import json

import numpy as np
import pytest

from connectors.contract import Caption, CaptionStatus, Clip, ClipPosition, Delivery, Usage
from connectors.errors import Poison
from connectors.media.refused import RefusedMedia
from connectors.messages.codec import caption_from_json, caption_to_json
from daemon.answers.asking import Asked
from daemon.answers.judgement import judge
from daemon.clip_task import ClipTask
from daemon.config.clip_settings import ClipSettings
from daemon.engines.contract import Completion
from daemon.prompts.prompt import Prompt
from daemon.windows import NS_PER_S, FramePolicy, FrameSet, Window, WindowPolicy

SETTINGS = ClipSettings(WindowPolicy(NS_PER_S, NS_PER_S, NS_PER_S // 2), FramePolicy(num_frames=2), Prompt("Describe."))


def captioned(task: ClipTask, frames: FrameSet, done: Completion) -> Caption:
    """Return the caption of a window whose first answer counts."""
    prompt = task.settings.prompt
    return task.caption(frames, prompt, Asked(done, judge(done, prompt)))


@pytest.mark.parametrize(("position", "begins"), [(0, 0), (2, 2), (6, 6), (7, 0), (99, 0), (10**15, 0)])
def test_a_position_behind_the_plans_end_begins_again(position: int, begins: int) -> None:
    clip = Clip("c", "t", RefusedMedia("c", Poison("corrupt", "x")), 0)
    plan_hash = SETTINGS.plan_hash("m")
    task = ClipTask(Delivery(clip, ClipPosition(position, plan_hash)), SETTINGS, "m")

    task.fit(6)

    assert task.next_window == begins
    assert task.advance([], last=False).next_window == begins


@pytest.mark.parametrize(
    ("answer", "status", "detail"),
    [
        (Completion("A dog.", False, 1, 1, 1), CaptionStatus.SUCCESS, ""),
        (Completion("A do", True, 1, 1, 1), CaptionStatus.TRUNCATED, ""),
        (Completion(" \n", False, 1, 1, 1), CaptionStatus.EMPTY, ""),
        (Completion("", True, 1, 1, 1), CaptionStatus.TRUNCATED, "cut off at generation.max_tokens before its first"),
        (Completion("", True, 1, 1, 1, detail="reasoning alone"), CaptionStatus.TRUNCATED, "reasoning alone"),
        (Completion("", False, 1, 1, 1, detail="reasoning alone"), CaptionStatus.EMPTY, "reasoning alone"),
    ],
)
def test_a_window_without_a_text_says_why(answer: Completion, status: CaptionStatus, detail: str) -> None:
    clip = Clip("c", "t", RefusedMedia("c", Poison("corrupt", "x")), 0)
    frames = FrameSet(Window(0, 0, NS_PER_S, (0,), (0,)), np.zeros((1, 4, 4, 3), np.uint8), (0,))

    caption = captioned(ClipTask(Delivery(clip), SETTINGS, "m"), frames, answer)

    assert caption.status is status
    assert detail in caption.detail
    assert bool(caption.detail) == bool(detail)


def test_the_tokens_of_the_reasoning_are_in_the_message() -> None:
    clip = Clip("c", "t", RefusedMedia("c", Poison("corrupt", "x")), 0)
    frames = FrameSet(Window(0, 0, NS_PER_S, (0,), (0,)), np.zeros((1, 4, 4, 3), np.uint8), (0,))
    cut = Completion("", True, 40, 8, 256, detail="the model gave its reasoning alone", reasoning_tokens=256)

    message = json.loads(caption_to_json(captioned(ClipTask(Delivery(clip), SETTINGS, "m"), frames, cut)))

    assert message["usage"] == {"prompt_tokens": 40, "vision_tokens": 8, "output_tokens": 256, "reasoning_tokens": 256}
    assert (message["status"], message["text"], message["detail"]) == ("truncated", "", cut.detail)
    del message["usage"]["reasoning_tokens"]  # as an earlier version wrote it
    assert caption_from_json(json.dumps(message).encode()).usage == Usage(40, 8, 256)
