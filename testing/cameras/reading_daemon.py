"""The real daemon with an engine that reads painted numbers: a caption is the numbers of the frames it was shown."""

from daemon.__main__ import main
from daemon.engines.fake import FakeEngine
from daemon.prompts.prompt import Prompt
from daemon.windows import FrameSet
from testing.cameras.painted_frames import number_of


def _numbers(_engine: FakeEngine, frames: FrameSet, _prompt: Prompt, _request_id: str) -> tuple[list[str], bool]:
    return [str(number_of(frame.mean(axis=2))) for frame in frames.frames], False


if __name__ == "__main__":
    FakeEngine._words = _numbers  # type: ignore[method-assign]
    main()
