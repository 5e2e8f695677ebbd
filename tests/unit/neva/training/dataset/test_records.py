"""A record of LLaVA's JSON: what is learned from one that is odd, as NeMo learns from it, and what is skipped."""

from typing import Any

import pytest

from neva.conversations import Turn
from neva.training.dataset.records import OddRecord, RecordRules, TrainingRecord, read_record

VIDEO = RecordRules("video")


def talk(*said: str, **more: Any) -> dict[str, Any]:
    turns = [{"from": ("human", "gpt")[at % 2], "value": text} for at, text in enumerate(said)]
    return {"conversations": turns, **more}


def read(record: Any, template: str = "v1", media_type: Any = "video", *, steerlm: bool = False) -> TrainingRecord:
    return read_record(record, RecordRules(media_type, template, steerlm))


def test_conversations_about_a_video_and_of_text_alone() -> None:
    two = talk("<video>\nWhat?", "A dog.", "Where?", "Here.", video="a.mp4", id="1", system="Be brief.")
    found = [
        read(two),
        read(talk("Hello", "Hi.")),
        read(talk("<image>\nWhat?", "A cat.", video=["b.mp4"])),  # LLaVA-Video writes <image> for videos
    ]

    assert found == [
        TrainingRecord((Turn("<video>\nWhat?", "A dog."), Turn("Where?", "Here.")), "a.mp4", "Be brief."),
        TrainingRecord((Turn("Hello", "Hi."),)),
        TrainingRecord((Turn("<image>\nWhat?", "A cat."),), "b.mp4"),
    ]


@pytest.mark.parametrize(("template", "label"), [("nv_steerlm", "quality:9"), ("v1", None)])
def test_labels_are_those_of_the_answer_in_the_families_that_have_them(template: str, label: str | None) -> None:
    record = talk("<image>Why?", "So.", image="a.png")
    record["conversations"][1]["label"] = "quality:9"

    found = read(record, template, "image")

    assert found.turns == (Turn("<image>Why?", "So.", label),)


def first_answer(record: dict[str, Any]) -> dict[str, Any]:
    return record | {"conversations": [{"from": "gpt", "value": "Good day."}, *record["conversations"]]}


ONE = (Turn("<video>What?", "A dog."),)


@pytest.mark.parametrize("template", ["v1", "llama_2", "nvgpt", "yi_34b"])
@pytest.mark.parametrize(
    ("record", "turns"),
    [
        (first_answer(talk("<video>What?", "A dog.", video="a.mp4")), ONE),
        (talk("<video>What?", "A dog.", "And?", video="a.mp4"), ONE),
        (talk("<video>What?", "A dog.", "And?", "", video="a.mp4"), ONE),
        (talk("<video>What?", "A dog.", "", "A cat.", video="a.mp4"), ONE),
        (talk("<video>What?", "", "Now?", "A cat.", video="a.mp4"), (Turn("<video>What?", ""), Turn("Now?", "A cat."))),
    ],
)
def test_an_answer_that_comes_first_and_a_question_without_one_are_left_out(
    template: str, record: Any, turns: tuple[Turn, ...]
) -> None:
    found = read(record, template)

    assert (found.turns, found.media) == (turns, "a.mp4")


@pytest.mark.parametrize(
    ("record", "clips", "says"),
    [
        (talk("Why?", "So.", video="a.mp4"), (), "no token stands for"),
        (talk("<video>Why?", "So.", video=["a.mp4", "b.mp4"]), ("a.mp4",), "no token stands for"),
        (talk("<video> or <video>?", "So.", video=["a.mp4", "b.mp4"]), ("a.mp4", "b.mp4"), None),
        (talk("<video>Why?", "So."), (), "is text"),
        (talk("Why?", "So.", video=None), (), None),
        (talk("Why?", "So.", video=[]), (), None),
        (talk("Why?", "So.", "<video>?", video="a.mp4"), (), "no token stands for"),  # the token goes with its question
    ],
)
def test_media_are_shown_where_tokens_stand_for_them(record: Any, clips: tuple[str, ...], says: str | None) -> None:
    found = read(record)

    assert found.clips == clips
    assert (found.changed or "") == "" if says is None else says in (found.changed or "")


def test_plain_shows_one_clip_and_takes_text_alone() -> None:
    shown = read(talk("<video><video>\nWhy?", "So.", video=["a.mp4", "b.mp4"]), "plain")
    text = read(
        talk(
            "Once upon a time",
            " there was.",
        ),
        "plain",
    )
    started = read(talk("", "There was."), "plain")

    assert shown.clips == ("a.mp4",)
    assert text == TrainingRecord((Turn("Once upon a time", " there was."),))
    assert started.turns == (Turn("", "There was."),)


def test_interleaved_takes_a_text_with_media_in_it() -> None:
    found = read({"conversations": "See <video> and <video>.", "video": ["a.mp4", "b.mp4"]}, "interleaved")

    assert (found.turns, found.clips) == ((Turn("", "See <video> and <video>."),), ("a.mp4", "b.mp4"))


def test_steerlms_tags_name_the_images() -> None:
    record = talk('<img src="/data/x/a.png">\n<img src="b.png" alt="b">What?', "A cat.", image="other.png")
    record["conversations"][0]["from"], record["conversations"][1]["from"] = "User", "Assistant"

    found = read(record, "nv_steerlm", "image", steerlm=True)

    assert found.turns == (Turn("<image>\n<image>What?", "A cat."),)
    assert found.clips == ("a.png", "b.png")
    with pytest.raises(OddRecord, match="media of the other kind"):
        read(record, "nv_steerlm", "video", steerlm=True)


def test_unknown_roles_go_by_their_place_where_nemos_template_does() -> None:
    record = talk("Hello", "Hi.")
    record["conversations"][0]["from"] = "prompter"
    del record["conversations"][1]["from"]

    assert read(record, "nvgpt").turns == (Turn("Hello", "Hi."),)
    with pytest.raises(OddRecord, match="from neither human nor gpt"):
        read(record, "v1")


def said(*values: Any) -> dict[str, Any]:
    return {"conversations": list(values)}


@pytest.mark.parametrize(
    ("record", "says"),
    [
        ("text", "no JSON object"),
        (None, "no JSON object"),
        ([talk("Hello", "Hi.")], "no JSON object"),
        ({"video": "a.mp4"}, "no list of conversations"),
        ({"conversations": None}, "no list of conversations"),
        ({"conversations": {"from": "human"}}, "no list of conversations"),
        ({"conversations": []}, "no question with an answer"),
        (talk("<video>Why?", video="a.mp4"), "no question with an answer"),
        (talk("<video>Why?", "", video="a.mp4"), "no question with an answer"),
        (said({"from": "gpt", "value": "Hi."}), "no question with an answer"),
        (said("Hello", "Hi."), "a turn is no JSON object"),
        (said({"from": "human"}, {"from": "gpt", "value": "Hi."}), "the value of a turn is no text"),
        (said({"from": "human", "value": 3}, {"from": "gpt", "value": "Hi."}), "the value of a turn is no text"),
        (said({"from": "human", "value": "\ud800"}, {"from": "gpt", "value": "Hi."}), "lone surrogate"),
        (said({"from": "human", "value": "a"}, {"from": "human", "value": "b"}), "do not follow each other"),
        (said({"from": ["human"], "value": "a"}, {"from": "gpt", "value": "b"}), "from neither human nor gpt"),
        (said({"from": "robot", "value": "a"}, {"from": "gpt", "value": "b"}), "from neither human nor gpt"),
        (talk("<video><video>Why?", "So.", video="a.mp4"), "more media than it names"),
        (talk("<video><image>Why?", "So.", video="a.mp4"), "both <video> and <image>"),
        (talk("Why?", "So <video>", video="a.mp4"), "an answer shows media"),
        (talk("<image>Why?", "So.", image="a.png"), "media of the other kind than data.media_type, which is video"),
        (talk("<video>Why?", "So.", video={"path": "a.mp4"}), "the name of its media is no text"),
        (talk("<video>Why?", "So.", video=["a.mp4", ""]), "the name of its media is empty"),
        (talk("Hello", "Hi.", system=["Be brief."]), "its system text is no text"),
    ],
)
def test_a_record_that_teaches_nothing_says_why(record: Any, says: str) -> None:
    with pytest.raises(OddRecord) as odd:
        read(record)

    assert says in str(odd.value)


@pytest.mark.parametrize(
    ("record", "says"),
    [
        (talk("<video>Why?", "So.", "And?", "So.", video="a.mp4"), "takes one question and its answer"),
        (talk("<video>Why?", "So.", "And?", video="a.mp4"), "takes one question and its answer"),
        (talk("Why?", "So.", video="a.mp4"), "which the template plain needs"),
    ],
)
def test_plain_is_stricter(record: Any, says: str) -> None:
    with pytest.raises(OddRecord, match=says):
        read(record, "plain")


def test_a_label_that_is_no_text_is_odd_where_labels_are_written() -> None:
    record = talk("Why?", "So.")
    record["conversations"][1]["label"] = {"quality": 4}

    assert read(record, "v1").turns == (Turn("Why?", "So."),)
    with pytest.raises(OddRecord, match="the label of an answer is no text"):
        read(record, "nvgpt")
