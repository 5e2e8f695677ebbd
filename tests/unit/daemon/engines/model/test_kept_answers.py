"""A processor's answers in a later run: equal to its own, and asked again where anything that decides them changed."""

import json
import os
from pathlib import Path

import pytest

from connectors.errors import Poison, Reason
from daemon.config.settings import Settings
from daemon.engines.build import kept_answers_file
from daemon.engines.fake import FakeTokenPlanner
from daemon.engines.model.kept_answers import KeptAnswers, answers_file
from daemon.engines.model.token_planner import TokenPlanner
from daemon.frame_look import FrameSize, PixelBudget
from daemon.prompts.prompt import Prompt

ASK, OWN = Prompt("What moves?", max_tokens=8), FrameSize(640, 480)
BUDGETS = (PixelBudget(), PixelBudget(max_pixels=1000), PixelBudget(max_vision_tokens=200))


class WritesTimes(FakeTokenPlanner):
    """A model that writes when each frame is shown."""

    def writes_times(self, num_frames: int, height: int, width: int, prompt: Prompt) -> bool:
        return True

    def prompt_tokens(
        self, num_frames: int, height: int, width: int, prompt: Prompt, offsets_ms: tuple[int, ...] | None = None
    ) -> int | None:
        return self.tokens(num_frames, prompt) + sum(len(str(at)) for at in offsets_ms or ())


def never() -> TokenPlanner:
    raise AssertionError("the model's processor was asked")


def ask(planner: TokenPlanner) -> list[object]:
    answers: list[object] = []
    for budget in BUDGETS:
        size = planner.frame_size(8, OWN, budget)
        planner.check(ASK, 8, size.height, size.width, (0, 125))
        answers += [size, planner.vision_tokens(8, size)]
        answers += [planner.prompt_tokens(8, size.height, size.width, ASK, at) for at in ((0, 125), (0, 12500))]
    return answers


@pytest.mark.parametrize("kind", [FakeTokenPlanner, WritesTimes])
def test_a_later_run_has_the_same_answers_and_asks_nothing(kind: type[FakeTokenPlanner], tmp_path: Path) -> None:
    first = KeptAnswers(tmp_path / "made" / "answers.json", kind)
    answers = ask(first)
    first.keep()

    assert answers == ask(kind())
    assert ask(KeptAnswers(tmp_path / "made" / "answers.json", never)) == answers


def test_the_model_is_not_asked_what_its_files_say() -> None:
    assert ask(KeptAnswers(None, never, FakeTokenPlanner)) == ask(FakeTokenPlanner())


def test_what_the_files_do_not_say_the_model_is_asked() -> None:
    class Refuses(FakeTokenPlanner):
        def check(self, *_: object, **__: object) -> None:
            raise Poison(Reason.OVER_CONTEXT, "it may be too long", origin="prompt")

    assert ask(KeptAnswers(None, FakeTokenPlanner, Refuses)) == ask(FakeTokenPlanner())
    with pytest.raises(AssertionError):
        KeptAnswers(None, never, lambda: None).check(ASK, 8, 48, 64)
    with pytest.raises(AssertionError):
        KeptAnswers(None, never, Refuses).check(ASK, 8, 48, 64)


def test_another_prompt_shape_or_length_is_asked_about(tmp_path: Path) -> None:
    first = KeptAnswers(tmp_path / "answers.json", FakeTokenPlanner)
    first.check(ASK, 8, 48, 64)
    first.keep()

    for prompt, count in ((Prompt("What else?", max_tokens=8), 8), (ASK, 9), (Prompt("What moves?", max_tokens=9), 8)):
        with pytest.raises(AssertionError):
            KeptAnswers(tmp_path / "answers.json", never).check(prompt, count, 48, 64)


def test_a_window_that_does_not_fit_is_refused_each_time(tmp_path: Path) -> None:
    first = KeptAnswers(tmp_path / "answers.json", FakeTokenPlanner)
    for _ in range(2):
        with pytest.raises(Poison):
            first.check(ASK, 100_000, 48, 64)


@pytest.mark.parametrize("written", ["", "[]", "{", '{"a": "b"}', '{"a": [1, -2]}', '{"a": {}}'])
def test_a_file_that_holds_something_else_counts_for_nothing(written: str, tmp_path: Path) -> None:
    (tmp_path / "answers.json").write_text(written)

    assert ask(KeptAnswers(tmp_path / "answers.json", FakeTokenPlanner)) == ask(FakeTokenPlanner())


def test_a_folder_that_cannot_be_written_to_is_no_fault(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    planner = KeptAnswers(tmp_path / "file" / "answers.json", FakeTokenPlanner)
    ask(planner)

    planner.keep()


def test_whatever_decides_the_answers_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text(json.dumps({"a": 1}))
    found = {answers_file(model, "settings")}
    assert answers_file(model, "settings") in found

    found.add(answers_file(model, "others"))
    os.utime(model / "config.json", ns=(1, 1))
    found.add(answers_file(model, "settings"))
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
    found.add(answers_file(model, "settings"))

    assert len(found) == 4
    assert {file.parent for file in found} == {tmp_path / "cache" / "captiond" / "tokens"}


def test_only_a_folder_has_a_file() -> None:
    def settings(**engine: object) -> Settings:
        values = {"sources": {"a": {"kind": "folder", "path": "/a"}}, "sink": {"kind": "folder", "path": "/b"}}
        return Settings.model_validate(values | {"engine": engine})

    assert kept_answers_file(settings(kind="vllm")) is not None
    assert kept_answers_file(settings(kind="vllm", model="some/name")) is None
    assert kept_answers_file(settings(kind="fake")) is None
