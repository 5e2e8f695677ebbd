"""Loops are found in texts, and in no real sentence; refusals are found whatever their case."""

import random

import pytest

from daemon.answers.quality import loops, refuses

# varied: short and long, lists, counts, repetition as people use it, several languages
SENTENCES = """
A man in a red jacket walks his dog along the beach while the sun goes down.
The car stops at the light, waits, and then turns left.
Two children play football; one of them falls, gets up and runs on.
No, no, no, no: the referee shakes his head at every player who asks.
It is very, very, very cold, and everyone wears thick coats.
The crowd shouts "Goal! Goal! Goal!" and flags are waved everywhere.
On the left there is a table, on the right there is a chair, and in the middle there is a lamp.
The numbers on the board read 1, 2, 3, 4, 5, 6, 7, 8, 9, 10.
The clock shows 10:00, then 10:01, then 10:02, then 10:03.
A red bus passes, a blue bus passes, and a green bus passes.
The chef cuts an onion, cuts a carrot, cuts a pepper, and puts all of it into the pan.
First she opens the door. Then she looks outside. Then she closes the door. Then she sits down.
Row, row, row your boat, gently down the stream.
The person is standing. The person is walking. The person is running. The person has left.
Nothing moves.
Yes.
A cat.
The screen is black.
The camera pans slowly over a valley with a river, fields, a church and mountains behind it.
Ha ha ha, laughs the clown, and the children laugh with him.
Eine Frau fährt mit dem Fahrrad durch den Park, während es regnet.
Un homme ouvre la porte, regarde dehors, puis referme la porte.
一个穿着红色外套的男人在公园里遛狗、旁边有孩子在踢球。
犬が公園で走っています。子供たちが遊んでいます。
Мужчина в красной куртке идёт по улице и говорит по телефону.
The waves come in, and go out, and come in again.
There are three boxes: a small box, a medium box and a large box.
The dancer spins, spins again, and spins a third time before she bows.
Frames 1 to 4 show a road; frames 5 to 8 show the same road at night.
A train arrives at platform 4 at 12:04 and leaves at 12:09.
""".strip().splitlines()


def varied() -> list[str]:
    """Return a hundred texts of these, alone and several together."""
    draw = random.Random(7)
    joined = [" ".join(draw.sample(SENTENCES, draw.randint(2, 8))) for _ in range(100 - len(SENTENCES))]
    return [*SENTENCES, *joined]


def test_a_hundred_varied_sentences_hold_no_loop() -> None:
    found = {text: said for text in varied() if (said := loops(text))}

    assert len(varied()) == 100
    assert found == {}


@pytest.mark.parametrize("cut", [0, 3, 11])
@pytest.mark.parametrize("lead", ["", "A man walks his dog. "])
@pytest.mark.parametrize(
    "unit",
    [
        "no ",
        "the dog runs ",
        "The man is walking down the street. ",
        "A red car passes the house on the left, and a woman waves from the window of the second floor. ",
        "ab",
        "。",
        "红色的车",
        "! ",
        "1 2 3 ",
    ],
)
def test_what_is_said_again_and_again_is_a_loop(unit: str, lead: str, cut: int) -> None:
    text = lead + unit * max(12, 200 // len(unit))

    assert loops(text[: len(text) - cut])


def test_a_loop_that_varies_is_one() -> None:
    draw = random.Random(1)
    text = " ".join(draw.choice(("red car", "red car", "blue car", "the car")) for _ in range(60))

    assert loops(text)


def test_tokens_tell_of_a_loop_that_the_text_does_not_show() -> None:
    assert loops("\ufffd", [7, 9, 11] * 10)
    assert not loops("\ufffd", list(range(30)))


@pytest.mark.parametrize(
    ("text", "phrase"),
    [
        ("I'm sorry, but I can\u2019t help with that.", "I can't help"),
        ("AS AN AI  language model I will not.", "as an ai language model"),
        ("A man says that he is sorry.", ""),
        ("", ""),
    ],
)
def test_refusals(text: str, phrase: str) -> None:
    assert refuses(text, ["I can't help", "as an ai language model"]) == phrase
