"""Places in questions: filled once, by data that stays data."""

import pytest

from connectors.contract import ATTRIBUTE, Clip, Delivery
from connectors.errors import ConfigurationError
from connectors.media.bytes import BytesMedia
from daemon.clip_task import ClipTask
from daemon.config.clip_settings import ClipSettings
from daemon.engines.contract import Completion
from daemon.prompts.places import MOST_CHARACTERS, PLACES, filled, places_in, with_words_behind
from daemon.prompts.prompt import Prompt
from daemon.windows import NS_PER_S, FramePolicy, WindowPolicy
from tests.unit.daemon.test_clip_task import captioned
from tests.windows_of_noise import noise


def prompt(text: str, system: str | None = None) -> Prompt:
    places = dict.fromkeys((*places_in(text, "text"), *places_in(system, "system")))
    return Prompt(text, system=system, places=tuple(places))


@pytest.mark.parametrize(
    "text",
    ['Answer as {"fire": true}.', "{ clip }", "{}", "{1}", "a } b {", "Plain.", "{{}}", '{"a": {"b": "c"}}'],
)
def test_a_text_without_a_word_in_braces_stays_as_it_is(text: str) -> None:
    assert places_in(text, "prompt.text") == ()
    assert filled(prompt(text), lambda _: "x").text == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("In {clip}: {{x}}", "In A: {x}"),
        ("{{clip}}", "{clip}"),
        ("{{{clip}}}", "{A}"),
        ('{{"clip": "{clip}", "at": {{"from": {start}}}}}', '{"clip": "A", "at": {"from": A}}'),
        ("{clip}{clip} {attributes.camera-1} {attributes.x.y}", "AA A A"),
    ],
)
def test_places_are_filled_and_doubled_braces_are_braces(text: str, shown: str) -> None:
    assert filled(prompt(text), lambda _: "A").text == shown


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("In {clipp}", r"nothing stands for \{clipp\}: do you mean \{clip\}\?"),
        ("{anything}", r"there are \{source\}, .*\{attributes.NAME\}; the braces themselves are"),
        ("{attributes.}", "nothing stands for"),
        ("{clip} {", "written twice: {{"),
        ('{"clip": {clip}}', "written twice: {{"),
    ],
)
def test_what_no_place_is_is_refused(text: str, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says) as refused:
        places_in(text, "prompts.alert.text")
    assert refused.value.path == "prompts.alert.text"


def test_a_window_fills_every_place() -> None:
    text = "|".join(f"{{{name}}}" for name in (*PLACES, "attributes.camera", "attributes.no"))
    asked = prompt(text, system="Camera {attributes.camera}.")
    settings = ClipSettings(WindowPolicy(NS_PER_S, NS_PER_S, 0), FramePolicy(num_frames=2), asked)
    clip = Clip("c", "door", BytesMedia("a/b.mp4", b""), 0, {ATTRIBUTE + "camera": "North"})
    frames = noise(2, 8, 8, index=3, window_s=10)

    found = ClipTask(Delivery(clip), settings, "m").question(asked, frames)

    assert found.text == "door|a/b.mp4|30|40|10|32.5, 37.5|2||North|"
    assert found.system == "Camera North."
    assert found.hash != asked.hash  # of the text as it was asked; a caption has the template's


def test_a_captions_id_covers_the_attributes_that_were_asked_about() -> None:
    asked = prompt("{attributes.camera}?")
    settings = ClipSettings(WindowPolicy(NS_PER_S, NS_PER_S, 0), FramePolicy(num_frames=2), asked)

    def caption_id(camera: str) -> str:
        clip = Clip("c", "door", BytesMedia("a", b""), 0, {ATTRIBUTE + "camera": camera, ATTRIBUTE + "other": camera})
        task = ClipTask(Delivery(clip), settings, "m")
        return captioned(task, noise(2, 8, 8), Completion("x", False, 1, 0, 1)).caption_id

    assert caption_id("a") == caption_id("a") != caption_id("b")


def test_what_fills_a_place_is_no_template_and_has_a_bound() -> None:
    hostile = "{source} {{x}} {attributes.y}" + "a" * 20_000

    found = filled(prompt("In {clip}."), lambda _: hostile)

    assert found.text == f"In {hostile[:MOST_CHARACTERS]}."
    assert found.words == ("In ", hostile[:MOST_CHARACTERS], ".")


def test_a_senders_words_behind_a_question_are_no_template() -> None:
    behind = with_words_behind(prompt("In {clip}, what moves?"), "{source} {clip")

    found = filled(behind, lambda _: "A")

    assert found.text == "In A, what moves?\n\n{source} {clip"
    assert [part for at, part in enumerate(found.words) if at % 2] == ["A", "{source} {clip"]
