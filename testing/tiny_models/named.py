"""The parts that tiny models of more families share: tokenizers with named tokens, and chat templates."""

from typing import Any

from testing.tiny_models.parts import byte_tokenizer


def named_tokenizer(named: dict[str, str], extra: list[str], template: str) -> Any:
    """Return a tokenizer of bytes whose ``named`` tokens are also its attributes, as processors read them."""
    tokenizer = byte_tokenizer([*extra, *(text for text in named.values() if text not in extra)], template)
    for name, text in named.items():
        tokenizer.init_kwargs.setdefault("extra_special_tokens", {})[name] = text
    tokenizer._set_model_specific_special_tokens(special_tokens=named)
    return tokenizer


def turns(start: str, end: str, answer: str, first: str = "", **media: str) -> str:
    """Return a chat template that takes typed parts: ``start`` with ``ROLE`` in it, ``media`` by the parts' types."""
    marks = "".join(
        f"{{% if part['type'] == '{kind}' %}}{{{{ {mark!r} }}}}{{% endif %}}" for kind, mark in media.items()
    )
    opening = " + message['role'] + ".join(repr(part) for part in start.split("ROLE"))
    return (
        f"{{{{ {first!r} }}}}{{% for message in messages %}}{{{{ {opening} }}}}"
        "{% if message['content'] is string %}{{ message['content'] }}"
        f"{{% else %}}{{% for part in message['content'] %}}{marks}"
        "{% if part['type'] == 'text' %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}"
        f"{{{{ {end!r} }}}}{{% endfor %}}{{% if add_generation_prompt %}}{{{{ {answer!r} }}}}{{% endif %}}"
    )
