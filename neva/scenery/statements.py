"""The statements about a clip, and the one sentence that says them.

A sentence names light and main colours, then either a transition (black, a cut, a fade) or the camera and what else
moves: ``A bright scene, mostly green and grey; the camera is still; something moves in the middle.`` Where something
moves is said while the camera is still; while it moves, only that something does.
"""

import re
from dataclasses import dataclass

LIGHTS = ("dark", "dim", "bright")
COLOURS = ("black", "grey", "white", "red", "orange", "brown", "yellow", "green", "blue", "purple")
CAMERAS = {
    "still": "the camera is still",
    "left": "the camera pans to the left",
    "right": "the camera pans to the right",
    "up": "the camera pans up",
    "down": "the camera pans down",
    "in": "the camera zooms in",
    "out": "the camera zooms out",
    "shakes": "the camera shakes",
}
MOVEMENTS = {
    "nothing": "nothing else moves",
    "middle": "something moves in the middle",
    "left": "something moves on the left",
    "right": "something moves on the right",
    "top": "something moves at the top",
    "bottom": "something moves at the bottom",
    "much": "much else moves",
    "something": "something else moves",
}
PLACES = ("middle", "left", "right", "top", "bottom")
TRANSITIONS = {
    "none": "",
    "cut": "it cuts to another scene",
    "fade in": "it fades in from black",
    "fade out": "it fades out to black",
}
BLACK = "A black picture."
_SCENE = re.compile(r"A (\w+) scene, mostly (\w+)(?: and (\w+))?; ([^;]+)(?:; ([^;]+))?\.")


@dataclass(frozen=True, slots=True)
class Statements:
    """What is said of a clip; each field is a key of the tables above. ``colours`` are one or two, the main one first.

    ``camera`` and ``movement`` are said only of a clip without a transition, and of a black clip nothing is said.
    """

    light: str = "dark"
    colours: tuple[str, ...] = ("black",)
    camera: str = "still"
    movement: str = "nothing"
    transition: str = "none"
    black: bool = False

    def sentence(self) -> str:
        """Return the sentence that says all of it."""
        if self.black:
            return BLACK
        movement = "something" if self.camera != "still" and self.movement in PLACES else self.movement
        happens = TRANSITIONS[self.transition] or f"{CAMERAS[self.camera]}; {MOVEMENTS[movement]}"
        return f"A {self.light} scene, mostly {' and '.join(self.colours)}; {happens}."


def statements_of(sentence: str) -> Statements | None:
    """Return what ``sentence`` says; None where it is no sentence of this grammar."""
    if sentence == BLACK:
        return Statements(black=True)
    found = _SCENE.fullmatch(sentence)
    if found is None or found[1] not in LIGHTS or not {found[2], found[3] or found[2]} <= set(COLOURS):
        return None
    colours = (found[2], found[3]) if found[3] else (found[2],)
    if found[5] is None:
        transition = _key(TRANSITIONS, found[4])
        return Statements(found[1], colours, transition=transition) if transition else None
    camera, movement = _key(CAMERAS, found[4]), _key(MOVEMENTS, found[5])
    return Statements(found[1], colours, camera, movement) if camera and movement else None


def _key(table: dict[str, str], words: str) -> str | None:
    return next((key for key, said in table.items() if said == words), None)
