"""Statements and sentences: each says the other, and light and colours are counted as the names say."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from neva.scenery.light import Measured, measure
from neva.scenery.scoring import right_statements, shares
from neva.scenery.statements import (
    BLACK,
    CAMERAS,
    COLOURS,
    LIGHTS,
    MOVEMENTS,
    PLACES,
    TRANSITIONS,
    Statements,
    statements_of,
)
from neva.shapes.scenes import all_captions

MADE = [
    *(
        Statements(light, colours, camera, movement)
        for light, colours, camera, movement in product(LIGHTS, (("green",), ("grey", "blue")), CAMERAS, MOVEMENTS)
        if camera == "still" or movement not in PLACES
    ),
    *(Statements("dim", ("red",), transition=transition) for transition in TRANSITIONS if transition != "none"),
    Statements(black=True),
]


@pytest.mark.parametrize("statements", MADE, ids=Statements.sentence)
def test_a_sentence_is_read_as_it_was_written(statements: Statements) -> None:
    assert statements_of(statements.sentence()) == statements


def test_the_sentence_reads_as_the_guide_shows_it() -> None:
    said = Statements("bright", ("green", "grey"), "still", "middle").sentence()

    assert said == "A bright scene, mostly green and grey; the camera is still; something moves in the middle."


@pytest.mark.parametrize("camera", [camera for camera in CAMERAS if camera != "still"])
@pytest.mark.parametrize("place", PLACES)
def test_where_something_moves_is_not_said_while_the_camera_moves(camera: str, place: str) -> None:
    true = Statements("dim", ("grey",), camera, place)
    said = statements_of(true.sentence())
    seen = measure(np.full((8, 64, 64, 3), 90, np.uint8))

    assert said is not None
    assert said.movement == "something"
    assert right_statements(said, true, seen)["movement"]
    assert not right_statements(said, replace(true, movement="nothing"), seen)["movement"]
    assert not right_statements(said, replace(true, movement="much"), seen)["movement"]


def test_where_something_moves_is_to_be_said_of_a_still_camera() -> None:
    true = Statements("dim", ("grey",), "still", "left")
    seen = measure(np.full((8, 64, 64, 3), 90, np.uint8))

    assert not right_statements(replace(true, movement="something"), true, seen)["movement"]
    assert not right_statements(replace(true, camera="right", movement="something"), true, seen)["movement"]
    assert not right_statements(replace(true, camera="right", movement="top"), true, seen)["movement"]


@pytest.mark.parametrize(
    "words",
    [
        *all_captions()[:3],
        "",
        "A bright scene, mostly pink; the camera is still; nothing else moves.",
        "A bright scene, mostly green; the camera is still.",
        "A loud scene, mostly green; it cuts to another scene.",
    ],
)
def test_other_sentences_are_no_statements(words: str) -> None:
    assert statements_of(words) is None


@pytest.mark.parametrize(
    ("rgb", "colour", "light"),
    [
        ((5, 5, 5), "black", "dark"),
        ((90, 90, 92), "grey", "dim"),
        ((240, 240, 235), "white", "bright"),
        ((220, 30, 30), "red", "dim"),
        ((235, 140, 20), "orange", "bright"),
        ((110, 70, 25), "brown", "dim"),
        ((240, 230, 40), "yellow", "bright"),
        ((30, 150, 40), "green", "dim"),
        ((40, 80, 230), "blue", "dim"),
        ((160, 50, 200), "purple", "dim"),
    ],
)
def test_plain_frames_have_the_colour_and_the_light_of_their_name(
    rgb: tuple[int, int, int], colour: str, light: str
) -> None:
    seen = measure(np.full((8, 64, 64, 3), rgb, np.uint8))

    assert (seen.colours, seen.light) == ((colour,), light)


def test_a_second_colour_is_named_from_a_quarter_of_the_picture() -> None:
    frames = np.full((8, 64, 64, 3), (30, 150, 40), np.uint8)
    frames[:, :24] = (40, 80, 230)

    assert measure(frames).colours == ("green", "blue")


def test_near_a_threshold_both_lights_are_right() -> None:
    shares_of_none = np.zeros(len(COLOURS))

    assert Measured(107, shares_of_none).light_is("dim")
    assert Measured(107, shares_of_none).light_is("bright")
    assert not Measured(120, shares_of_none).light_is("dim")


def test_colours_of_nearly_equal_shares_may_change_places() -> None:
    seen = Measured(90, np.array([0, 0.46, 0, 0, 0, 0, 0, 0.44, 0.10, 0]))

    assert seen.colours == ("grey", "green")
    assert seen.colours_are(("green", "grey"))
    assert not seen.colours_are(("grey", "blue"))
    assert not seen.colours_are(("grey",))


def test_only_what_is_true_of_a_clip_is_scored() -> None:
    seen = measure(np.full((8, 64, 64, 3), (30, 150, 40), np.uint8))
    true = Statements("dim", ("green",), "left", "nothing")
    cut = Statements("dim", ("green",), transition="cut")

    rows = [
        right_statements(Statements("dim", ("green",), "right", "nothing"), true, seen),
        right_statements(true, cut, seen),
        right_statements(statements_of(BLACK), Statements(black=True), seen),
        right_statements(None, cut, seen),
    ]

    assert rows[0] == {"light": True, "colours": True, "transition": True, "camera": False, "movement": True}
    assert rows[1] == {"light": True, "colours": True, "transition": False}
    assert rows[2] == {"transition": True}
    assert not any(rows[3].values())
    assert shares(rows)["transition"] == 0.5
