"""A clip begins at a window that its plan has, whatever position it came with."""

import pytest

from connectors.contract import Clip, ClipPosition, Delivery
from connectors.errors import Poison
from connectors.media.refused import RefusedMedia
from daemon.clip_task import ClipTask
from daemon.config.clip_settings import ClipSettings
from daemon.prompts.prompt import Prompt
from daemon.windows import NS_PER_S, FramePolicy, WindowPolicy

SETTINGS = ClipSettings(WindowPolicy(NS_PER_S, NS_PER_S, NS_PER_S // 2), FramePolicy(num_frames=2), Prompt("Describe."))


@pytest.mark.parametrize(("position", "begins"), [(0, 0), (2, 2), (6, 6), (7, 0), (99, 0), (10**15, 0)])
def test_a_position_behind_the_plans_end_begins_again(position: int, begins: int) -> None:
    clip = Clip("c", "t", RefusedMedia("c", Poison("corrupt", "x")), 0)
    plan_hash = SETTINGS.plan_hash("m")
    task = ClipTask(Delivery(clip, ClipPosition(position, plan_hash)), SETTINGS, "m")

    task.fit(6)

    assert task.next_window == begins
    assert task.advance([], last=False).next_window == begins
