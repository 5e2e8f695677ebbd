"""The file that NeVA's options name, and the error for the first key in it that is wrong."""

from pathlib import Path

import pytest
from pydantic import ValidationError, field_validator

from connectors.section import Section
from neva.settings_file import config_file, configuration_error


class Inner(Section):
    steps: int = 1

    @field_validator("steps")
    @classmethod
    def _positive(cls, value: int) -> int:
        if value < 0:
            raise ValueError("write a number of steps")
        return value


class Outer(Section):
    inner: Inner = Inner()


@pytest.mark.parametrize("name", ["pretrain", "pretrain.yaml"])
def test_the_suffix_may_be_left_out(name: str) -> None:
    assert config_file(Path("conf"), name) == Path("conf/pretrain.yaml")


def test_another_suffix_is_part_of_the_name() -> None:
    assert config_file(Path("conf"), "neva.7b") == Path("conf/neva.7b.yaml")
    assert config_file(Path("conf"), "neva.yml") == Path("conf/neva.yml")


@pytest.mark.parametrize(
    ("values", "arguments", "says"),
    [
        ({"inner": {"steps": -1}}, {}, "inner.steps: write a number of steps"),
        ({"inner": {"stops": 1}}, {}, "inner.stops: unknown key"),
        ({"inner": {"stops": 1}}, {"unknown_key": "nobody has it"}, "inner.stops: nobody has it"),
        ({"stops": 1}, {"section": "data"}, "data.stops: unknown key"),
    ],
)
def test_the_first_wrong_key_is_named(values: dict[str, object], arguments: dict[str, str], says: str) -> None:
    with pytest.raises(ValidationError) as refused:
        Outer.model_validate(values)

    assert str(configuration_error(refused.value, **arguments)) == says  # type: ignore[arg-type]
