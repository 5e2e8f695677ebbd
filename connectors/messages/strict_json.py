"""JSON from outside, read with limits: what a parser lets through by default is refused by name."""

import json
from typing import Any, NoReturn

from connectors.errors import Poison, Reason

_MAX_DEPTH = 8  # a reference is a flat object; the parser recurses, so depth is checked before it runs
_MAX_DIGITS = 19  # as many as a 64-bit integer has: longer ones cost quadratic time


def parse_object(value: bytes, *, max_bytes: int) -> dict[str, Any]:
    """Return the JSON object in ``value``, or raise :class:`Poison` (``malformed``) that says what is wrong with it.

    Refused are: more than ``max_bytes``, anything but UTF-8, deep nesting, NaN and infinities, integers of more than
    19 digits, a key that comes twice, and anything but an object.
    """
    if len(value) > max_bytes:
        raise malformed(f"{len(value)} bytes are more than the {max_bytes} that a reference may have")
    try:
        text = value.decode("utf-8")
        _refuse_depth(text)
        parsed = json.loads(
            text, object_pairs_hook=_unique, parse_constant=_no_constant, parse_int=_small_int, parse_float=_finite
        )
    except UnicodeDecodeError as error:
        raise malformed(f"not UTF-8 at byte {error.start}") from error
    except json.JSONDecodeError as error:
        raise malformed(f"not JSON: {error.msg} at character {error.pos}") from error
    except RecursionError as error:
        raise malformed("nested too deeply") from error
    if not isinstance(parsed, dict):
        raise malformed("not a JSON object")
    return parsed


def malformed(detail: str) -> Poison:
    """Return the refusal of a message."""
    return Poison(Reason.MALFORMED, detail, origin="source")


def _refuse_depth(text: str) -> None:
    depth, in_string, escaped = 0, False, False
    for char in text:
        if in_string:
            if escaped:
                escaped = False
            elif char == "\\":
                escaped = True
            else:
                in_string = char != '"'
        elif char == '"':
            in_string = True
        elif char in "[{":
            depth += 1
            if depth > _MAX_DEPTH:
                raise malformed(f"nested more than {_MAX_DEPTH} deep")
        elif char in "]}":
            depth -= 1


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise malformed(f"the key {key[:64]!r} comes twice")
        found[key] = value
    return found


def _no_constant(name: str) -> NoReturn:
    raise malformed(f"{name} is not JSON")


def _small_int(digits: str) -> int:
    if len(digits.lstrip("-")) > _MAX_DIGITS:
        raise malformed(f"a number of {len(digits)} digits")
    return int(digits)


def _finite(digits: str) -> float:
    number = float(digits)
    if number in (float("inf"), float("-inf")):
        raise malformed("a number that is too large")
    return number
