"""The settings of a prompt that are no part of its hash while they are not used."""

from collections.abc import Mapping
from typing import Any

# settings that came after the first captions, with the values at which they are no part of the hash: a caption's id
# stays the same for a configuration that does not use them
UNHASHED: Mapping[str, Any] = {
    "min_p": 0.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "ignore_eos": False,
    "chat_template": None,
    "template_args": {},
    "reasoning": "off",
    "from_model": (),
    "name": None,
    "form": None,
    "places": (),
    "context_windows": 0,
    "retries": 0,
    "stop_loops": False,
    "refusals": (),
}
