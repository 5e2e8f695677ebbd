"""The common class of the configuration's sections, and the sizes that are written in them."""

import re
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict

_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


class Section(BaseModel):
    """A part of the configuration: frozen, and an unknown key is an error."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_default=True, hide_input_in_errors=False, allow_inf_nan=False
    )


def parse_bytes(value: Any) -> Any:
    """Turn ``"64MiB"`` into a number of bytes; anything but a string is left to pydantic."""
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMG]?i?B?)\s*", value, re.IGNORECASE)
    if match is None or match[2].upper() not in _UNITS:
        raise ValueError("write a size as a number of bytes or with a unit, for example 64MiB or 2GB")
    return int(float(match[1]) * _UNITS[match[2].upper()])


Bytes = Annotated[int, BeforeValidator(parse_bytes)]
