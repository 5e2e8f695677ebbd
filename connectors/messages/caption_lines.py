"""The JSON Lines of one clip, as they are read back: what a crash cut off is no part of them."""

from dataclasses import dataclass, field

from connectors.contract import Caption, Rejection
from connectors.messages.codec import message_from_json
from connectors.questions import Questions


@dataclass(slots=True)
class CaptionLines:
    """The whole lines of a file: captions of one clip and plan, and perhaps a rejection after them."""

    captions: list[Caption] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)  # the byte after each caption's line
    rejection: Rejection | None = None
    whole_bytes: int = 0

    @property
    def owner(self) -> str | None:
        """The clip that the lines are about."""
        if self.captions:
            return self.captions[0].clip_id
        return None if self.rejection is None else self.rejection.clip_id

    @property
    def caption_bytes(self) -> int:
        """The size of the captions' lines."""
        return self.ends[-1] if self.ends else 0

    def without_holes(self) -> "CaptionLines":
        """Return the lines up to the first window that is missing."""
        expected = 0
        for at, caption in enumerate(self.captions):
            index = caption.window.index
            if index != expected and not (at and index == expected - 1):
                return self._first(at)
            expected = index + 1
        return self

    def without_parts(self, questions: Questions) -> "CaptionLines":
        """Return the lines without those of a last window that has no answer yet to some of its questions."""
        if not self.captions or self.captions[-1].prompt is None:
            return self
        last = self.captions[-1]
        first = next(at for at, caption in enumerate(self.captions) if caption.window.index == last.window.index)
        if len(self.captions) - first >= len(questions.names(last.source)):
            return self
        return self._first(first)

    def _first(self, kept: int) -> "CaptionLines":
        return CaptionLines(self.captions[:kept], self.ends[:kept], None, self.ends[kept - 1] if kept else 0)


def parse_lines(data: bytes) -> CaptionLines:
    """Return what the lines hold, up to the first that is cut, can't be read or does not follow the one before."""
    lines = CaptionLines()
    while (line_end := data.find(b"\n", lines.whole_bytes) + 1) > 0:
        try:
            message = message_from_json(data[lines.whole_bytes : line_end])
        except ValueError:
            break
        if isinstance(message, Rejection):
            lines.rejection, lines.whole_bytes = message, line_end
            break
        if lines.captions and not _follows(lines.captions[-1], message):
            break
        lines.captions.append(message)
        lines.ends.append(line_end)
        lines.whole_bytes = line_end
    return lines


def _follows(before: Caption, caption: Caption) -> bool:
    """Whether a caption may stand behind another: of a later window, or another question's answer about the same."""
    same = (before.clip_id, before.plan_hash) == (caption.clip_id, caption.plan_hash)
    ahead = caption.window.index - before.window.index
    another = caption.prompt is not None and before.prompt not in (None, caption.prompt)
    return same and (ahead > 0 or (ahead == 0 and another))
