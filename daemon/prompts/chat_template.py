"""Chat templates: a model's own, or one in a file; the variables that they use, and their switches for thinking."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from connectors.errors import ConfigurationError, Poison, Reason

if TYPE_CHECKING:
    from jinja2.nodes import Template

THINKING = ("enable_thinking", "thinking")  # the variables by which templates are told whether the model may think
# what is passed to every template beside its arguments, or decides what comes back
RESERVED = frozenset(
    {"messages", "conversation", "add_generation_prompt", "continue_final_message", "chat_template", "tokenize"}
)
_SUFFIXES = (".jinja", ".jinja2", ".j2")
_MOST_BYTES = 2**20  # far above any chat template


@dataclass(frozen=True, slots=True)
class ChatTemplate:
    """A chat template. ``parts`` says whether it takes content as a list of typed parts or as one string."""

    source: str
    parts: bool

    def arguments(self, wanted: Mapping[str, Any], *, think: bool) -> dict[str, Any]:
        """Return the arguments that the template gets: the wanted ones, over those that turn thinking off.

        Without ``think`` each of the template's own switches for thinking is off.

        Raises:
            Poison: one is wanted that the template does not use, so it would change nothing.
        """
        known = variables(self.source)
        for name in wanted:
            if name not in known:
                close = difflib.get_close_matches(name, sorted(known), n=1)
                hint = f"; do you mean {close[0]!r}?" if close else ""
                detail = f"the chat template uses no variable {name!r} (prompt.template_args){hint}"
                raise Poison(Reason.PROMPT, detail, origin="prompt")
        off = {} if think else {name: False for name in THINKING if name in known}
        return off | dict(wanted)


def is_template_file(template: str) -> bool:
    """Whether ``prompt.template`` names a file: a path, or a name that ends as those of Jinja files do."""
    return "/" in template or template.endswith(_SUFFIXES)


def read_template(path: Path, key: str) -> str:
    """Return the text of a chat template's file.

    Raises:
        ConfigurationError: with ``key``; the file can't be read, or is no Jinja.
    """
    from jinja2 import TemplateSyntaxError

    try:
        if not path.is_file():
            raise ConfigurationError(f"there is no such file: {path}", path=key)
        if path.stat().st_size > _MOST_BYTES:
            raise ConfigurationError(f"{path} is too large for a chat template", path=key)
        source = path.read_text(encoding="utf-8")
        _undeclared(source)
    except OSError as error:
        raise ConfigurationError(f"{path} can't be read: {error.strerror}", path=key) from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path} is not UTF-8: its byte {error.start} is none", path=key) from error
    except TemplateSyntaxError as error:
        message = f"{path} is no Jinja template: {error.message} (line {error.lineno})"
        raise ConfigurationError(message, path=key) from error
    except RecursionError as error:
        raise ConfigurationError(f"{path} is nested too deeply", path=key) from error
    return source


@lru_cache(maxsize=64)
def variables(source: str) -> frozenset[str]:
    """Return the variables that a template uses and does not set itself; none for a text that is no Jinja."""
    from jinja2 import TemplateSyntaxError

    try:
        return _undeclared(source)
    except TemplateSyntaxError:
        return frozenset()


def loops_over_parts(source: str) -> bool:
    """Whether a template goes through each message's content part by part, written as plainly as most have it.

    It takes content as a list of parts then, and vLLM finds so too; what False means, only vLLM can say.
    """
    from jinja2 import TemplateSyntaxError, nodes

    def name(node: nodes.Node) -> str | None:
        return node.name if isinstance(node, nodes.Name) else None

    def is_content(node: nodes.Node, message: str) -> bool:
        if isinstance(node, nodes.Getitem):
            return isinstance(node.arg, nodes.Const) and node.arg.value == "content" and name(node.node) == message
        return isinstance(node, nodes.Getattr) and node.attr == "content" and name(node.node) == message

    try:
        template = _parsed(source)
    except TemplateSyntaxError:
        return False
    loops = list(template.find_all(nodes.For))
    # vLLM takes content for one string where values are given to anything but plain names
    is_plain = all(name(one.target) or isinstance(one.iter, nodes.Call) for one in loops)
    is_plain &= all(name(one.target) or isinstance(one.node, nodes.Const) for one in template.find_all(nodes.Assign))
    return is_plain and any(
        is_content(inner.iter, name(outer.target) or "")
        for outer in loops
        if name(outer.iter) == "messages"
        for inner in outer.find_all(nodes.For)
    )


def _undeclared(source: str) -> frozenset[str]:
    from jinja2 import meta

    return frozenset(meta.find_undeclared_variables(_parsed(source)))


def _parsed(source: str) -> "Template":
    from jinja2 import Environment, nodes
    from jinja2.ext import Extension, loopcontrols
    from jinja2.parser import Parser

    class Generation(Extension):
        """``{% generation %}`` marks the assistant's own words for training; transformers knows it, Jinja does not."""

        tags = {"generation"}  # noqa: RUF012 - as Jinja declares it

        def parse(self, parser: Parser) -> list[nodes.Node]:
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    # nothing is rendered here
    environment = Environment(autoescape=False, extensions=[Generation, loopcontrols])  # noqa: S701
    return environment.parse(source)
