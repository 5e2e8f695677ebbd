"""Ten JSON Schemas of growing difficulty, small enough for a model of random weights to fill to their end."""

import asyncio
from typing import Any

from connectors.contract import CaptionStatus
from daemon.answers.asking import Asked, ask
from daemon.engines.contract import Engine
from daemon.prompts.answer_form import AnswerForm
from daemon.prompts.prompt import Prompt
from tests.windows_of_noise import noise

ANSWERS_EACH = 20


def closed(**properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": [*properties],
        "additionalProperties": False,
    }


WORD = {"type": "string", "maxLength": 6}
COUNT = {"type": "integer", "minimum": 0, "maximum": 99}
SCHEMAS: tuple[dict[str, Any], ...] = (
    {"type": "boolean"},
    {"type": "string", "enum": ["day", "night", "dusk"]},
    {"type": "integer", "minimum": 3, "maximum": 17},
    closed(fire={"type": "boolean"}),
    closed(what=WORD, count=COUNT),
    {"type": "array", "items": {"enum": ["red", "green", "blue"]}, "minItems": 1, "maxItems": 3},
    closed(plate={"type": "string", "pattern": "^[A-Z]{2}-[0-9]{3}$"}, seen={"type": ["boolean", "null"]}),
    closed(who={"anyOf": [{"type": "null"}, closed(name=WORD)]}, where={"const": "door"}),
    closed(people={"type": "array", "maxItems": 2, "items": closed(role={"enum": ["guard", "guest"]}, age=COUNT)}),
    {
        "$defs": {
            "box": closed(x=COUNT, y=COUNT),
            "thing": closed(kind={"enum": ["car", "dog"]}, at={"$ref": "#/$defs/box"}),
        },
        **closed(
            summary={"type": "string", "minLength": 1, "maxLength": 8},
            things={"type": "array", "minItems": 1, "maxItems": 2, "items": {"$ref": "#/$defs/thing"}},
            alarm={"type": "boolean"},
        ),
    },
)  # fmt: skip


async def answered(engine: Engine) -> list[Asked]:
    """Return twenty answers to each schema, each sampled by another seed."""

    async def one(number: int, schema: dict[str, Any], seed: int) -> Asked:
        prompt = Prompt("What is shown?", form=AnswerForm.of_schema(schema), temperature=1.0, seed=seed, max_tokens=200)
        names = iter(range(10))
        window = noise(2, 56, 56, seed=seed, index=seed)
        return await ask(engine, window, prompt, lambda: f"schema/{number}/{seed}/{next(names)}/{id(engine)}")

    return await asyncio.gather(
        *(one(number, schema, seed) for number, schema in enumerate(SCHEMAS) for seed in range(ANSWERS_EACH))
    )


def not_valid(found: list[Asked]) -> list[tuple[str, str, str]]:
    """Return what is wrong with the answers that are not valid, without having been asked for again."""
    return [
        (one.said.status, one.said.text, one.said.detail)
        for one in found
        if one.said.status is not CaptionStatus.SUCCESS or one.attempts
    ]
