"""The settings of questions and their answers: what is asked, of which form an answer is, and what a good one is."""

import re
import warnings
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from connectors.section import Section
from daemon.prompts.chat_template import RESERVED

_POINTER = r"^(/([^~/]|~[01])*)*$"  # RFC 6901
_FORMS = ("schema", "choice", "regex")

with warnings.catch_warnings():  # pydantic had a method of this name, which nobody calls
    warnings.filterwarnings("ignore", message='Field name "schema"')

    class PromptSettings(Section):
        """The question to the model."""

        text: str = Field("Describe this video.", min_length=1, max_length=32_768, description="the question")
        template: str = Field(
            "auto", description="auto: the model's own chat template; or a Jinja file, or one of NeVA's conversations"
        )
        template_args: dict[str, Any] = Field(default_factory=dict, description="arguments of the chat template")
        system: str | None = Field(None, description="a system message, where the template has one")
        schema: dict[str, Any] | str | None = Field(  # type: ignore[assignment]
            None, description="the JSON Schema that answers fit, or the path of a file with one"
        )
        choice: tuple[Annotated[str, Field(min_length=1)], ...] | None = Field(
            None, min_length=1, description="instead: the words of which an answer is one"
        )
        regex: str | None = Field(None, min_length=1, description="instead: the expression that an answer fits")
        vtt_text: str | None = Field(
            None, pattern=_POINTER, description="JSON pointer to the text in an answer's data that .vtt files show"
        )

        @model_validator(mode="after")
        def _consistent(self) -> Self:
            if taken := sorted(RESERVED & self.template_args.keys()):
                raise ValueError(f"template_args can't hold {', '.join(taken)}: every template gets it from captiond")
            if len(given := [name for name in _FORMS if getattr(self, name) is not None]) > 1:
                raise ValueError(f"{' and '.join(given)} contradict each other: keep one of them")
            if self.vtt_text is not None and self.schema is None:
                raise ValueError("vtt_text points into the data of answers, and only those with a schema have any")
            return self

        @field_validator("regex")
        @classmethod
        def _compiles(cls, pattern: str | None) -> str | None:
            try:
                re.compile(pattern or "")
            except (re.error, RecursionError, OverflowError) as error:
                raise ValueError(f"{pattern!r} is not a regular expression: {error}") from error
            return pattern


class QualitySettings(Section):
    """What a good answer is, beyond what always shows: nothing said, or cut off at max_tokens."""

    loops: bool = Field(False, description="whether answers that say the same again and again are stopped and told")
    refusals: tuple[Annotated[str, Field(min_length=1)], ...] = Field(
        (), description="phrases by which a model refuses, whatever their case"
    )
    alarm: float | None = Field(
        None, gt=0, le=1, description="share of captions that are not good, of the last hundred, above which it is said"
    )
    input: tuple[Literal["black", "frozen", "unreadable"], ...] = Field(
        (), description="pictures that the model is not asked about: the message says what they are"
    )


class ContextSettings(Section):
    """What the model is told of the windows before."""

    windows: int = Field(0, ge=0, le=16, description="how many windows before this one {previous} has the texts of")
