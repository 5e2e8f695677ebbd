"""The texts that captions are scored against: what people wrote of clips and of parts of them.

A line of a file of references is a JSON object. ``clip_name`` or ``clip_id`` says of which clip it is; ``window``, a
number, or ``start_s`` and ``end_s`` of which part, else it is of all of the clip; ``captions`` are its texts, or
``text`` is the only one. A caption's own message is such a line too, so that one run may be held against another.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from connectors.errors import ConfigurationError
from connectors.messages.schema import CAPTION_TYPE, CaptionMessage
from connectors.validation import first_fault
from daemon.windows import NS_PER_S

_LEAST_SHARED = 0.5  # of the shorter of two spans: less, and they are about different things


class Reference(BaseModel):
    """What people wrote of a clip, or of a part of it."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    clip_id: str | None = None
    clip_name: str | None = None
    prompt: str | None = None
    window: int | None = Field(None, ge=0)
    start_s: float | None = Field(None, ge=0)
    end_s: float | None = Field(None, gt=0)
    captions: tuple[str, ...] = Field(min_length=1)

    @model_validator(mode="before")
    @classmethod
    def _as_it_may_stand(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        window, text = values.get("window"), values.get("text")
        if isinstance(window, dict):
            start_ns, end_ns = window.get("start_ns", 0), window.get("exclusive_end_ns", 0)
            values = {**values, "window": None, "start_s": start_ns / NS_PER_S, "end_s": end_ns / NS_PER_S}
        return {"captions": [text], **values} if isinstance(text, str) else values

    @model_validator(mode="after")
    def _is_of_a_clip(self) -> Self:
        if self.clip_id is None and self.clip_name is None:
            raise ValueError("clip_name or clip_id must say of which clip it is")
        if (self.start_s is None) != (self.end_s is None):
            raise ValueError("start_s and end_s come together")
        return self

    def is_of(self, caption: CaptionMessage) -> bool:
        """Return whether it is about the window of a caption of its clip, and answers the same question."""
        if self.prompt is not None and self.prompt != caption.prompt:
            return False
        if self.window is not None:
            return self.window == caption.window.index
        if self.start_s is None or self.end_s is None:
            return True
        start_s, end_s = caption.window.start_ns / NS_PER_S, caption.window.exclusive_end_ns / NS_PER_S
        shared = min(end_s, self.end_s) - max(start_s, self.start_s)
        return shared >= _LEAST_SHARED * min(end_s - start_s, self.end_s - self.start_s)


@dataclass
class References:
    """All references, by their clips."""

    _by_clip: dict[str, list[Reference]] = field(default_factory=lambda: defaultdict(list))

    @classmethod
    def read(cls, path: Path) -> "References":
        """Read a file of references; :class:`ConfigurationError` names the line that is none."""
        found = cls()
        for number, line in _lines(path):
            try:
                reference = Reference.model_validate_json(line)
            except ValidationError as error:
                raise ConfigurationError(first_fault(error).sentence(), path=f"{path}:{number}") from error
            for name in {reference.clip_id, reference.clip_name} - {None}:
                found._by_clip[str(name)].append(reference)
        return found

    def of(self, caption: CaptionMessage) -> list[str]:
        """Return the texts that a caption is scored against, each once."""
        named = [*self._by_clip.get(caption.clip_id, ()), *self._by_clip.get(caption.clip_name or "", ())]
        return list(dict.fromkeys(text for one in named if one.is_of(caption) for text in one.captions if text.strip()))


def read_captions(path: Path) -> Sequence[CaptionMessage]:
    """Return the captions in a file of messages; of one that stands there twice the last."""
    found: dict[str, CaptionMessage] = {}
    for number, line in _lines(path):
        if CAPTION_TYPE.encode() not in line:
            continue  # a rejection, or what somebody else wrote there
        try:
            message = CaptionMessage.model_validate_json(line)
        except ValidationError as error:
            raise ConfigurationError(first_fault(error).sentence(), path=f"{path}:{number}") from error
        found[message.caption_id] = message
    return list(found.values())


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"it can't be read: {error.strerror}", path=str(path)) from error
    lines: Iterable[bytes] = data.splitlines()
    return ((number, line) for number, line in enumerate(lines, 1) if line.strip())
