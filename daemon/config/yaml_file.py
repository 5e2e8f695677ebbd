"""YAML as a configuration's author means it: text stays text, and what can't be read safely is refused with its place.

The words yes, no, on and off, numbers such as ``010`` and ``1:30``, and dates are text. A key that wants a number or a
boolean makes one of them, so ``once: no`` is false where a question ``no`` is a question. Keys are always text, and
merge keys (``<<: *anchor``) work.
"""

import re
from pathlib import Path
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from connectors.errors import ConfigurationError

_MAX_VALUES = 100_000  # far above any configuration; anchors that multiply reach it in a few lines
OPEN_SECTIONS = frozenset(
    {"args", "consumer", "producer", "template_args"}
)  # their keys, and so their types, are another program's
_MERGE, _STR = "tag:yaml.org,2002:merge", "tag:yaml.org,2002:str"
_BOOL, _INT, _FLOAT, _DATE = (f"tag:yaml.org,2002:{kind}" for kind in ("bool", "int", "float", "timestamp"))
_OLD_BOOLEANS = {"yes": True, "on": True, "no": False, "off": False}


class BooleanWord(str):
    """A plain ``yes``, ``no``, ``on`` or ``off``: text, or a boolean where nothing says which of them is wanted."""

    __slots__ = ()

    def __bool__(self) -> bool:
        return _OLD_BOOLEANS[self.lower()]


class _Loader(yaml.SafeLoader):
    """YAML's safe loader with its surprises taken out."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._values: dict[int, int] = {}  # id of a node -> how many values it stands for, its aliases counted in full

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        """Compose a node; refuse one that contains itself, and anchors that multiply."""
        is_alias = self.check_event(yaml.AliasEvent)
        node = super().compose_node(parent, index)
        if node is None:
            return None
        if is_alias and id(node) not in self._values:
            raise yaml.composer.ComposerError(None, None, "an anchor that contains itself", node.start_mark)
        if not is_alias:
            self._values[id(node)] = 1 + sum(self._values[id(below)] for below in _below(node))
            if self._values[id(node)] > _MAX_VALUES:
                problem = f"more than {_MAX_VALUES} values, each use of an anchor counted"
                raise yaml.composer.ComposerError(None, None, problem, node.start_mark)
        return node

    def compose_mapping_node(self, anchor: Any) -> MappingNode:
        """Compose a mapping; refuse a key that stands twice. Merge keys do not count: a mapping's own keys win."""
        node = super().compose_mapping_node(anchor)
        seen = set[str]()
        for key, _ in node.value:
            if not isinstance(key, ScalarNode) or key.tag == _MERGE:
                continue
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key.value!r} stands twice", key.start_mark
                )
            seen.add(key.value)
            key.tag = _STR
        return node

    def construct_object(self, node: Node, deep: bool = False) -> Any:
        """Construct a value; what does not fit its tag (``!!int x``, an endless number) is said with its place."""
        try:
            return super().construct_object(node, deep)
        except (ValueError, TypeError, AttributeError, KeyError, OverflowError) as error:
            kind = node.tag.rpartition(":")[2]
            raise yaml.constructor.ConstructorError(None, None, f"this is no {kind}", node.start_mark) from error

    def construct_word(self, node: ScalarNode) -> "bool | BooleanWord":
        """Return true and false as booleans and the older words for them as what they may be."""
        text = str(self.construct_scalar(node))
        return BooleanWord(text) if text.lower() in _OLD_BOOLEANS else self.construct_yaml_bool(node)


def _below(node: Node) -> list[Node]:
    if isinstance(node, MappingNode):
        return [part for pair in node.value for part in pair]
    return list(node.value) if isinstance(node, SequenceNode) else []


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in known if tag not in (_INT, _FLOAT, _DATE)]
    for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
# YAML 1.1's own but for octals that begin with 0, and for numbers to the base 60
_Loader.add_implicit_resolver(
    _INT,
    re.compile(r"^[-+]?(?:0|[1-9][0-9_]*|0b[01_]+|0o[0-7]+|0x[0-9a-fA-F_]+)$"),
    list("-+0123456789"),
)
_Loader.add_implicit_resolver(
    _FLOAT,
    re.compile(
        r"^(?:[-+]?[0-9][0-9_]*\.[0-9_]*(?:[eE][-+]?[0-9]+)?|[-+]?\.[0-9][0-9_]*(?:[eE][-+]?[0-9]+)?"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
    ),
    list("-+0123456789."),
)
_Loader.add_constructor(_BOOL, _Loader.construct_word)


def parse_yaml(text: str) -> Any:
    """Return what a YAML text means; ``ValueError`` says what is wrong with it, and where."""
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def read_mapping(path: Path) -> dict[str, Any]:
    """Return a file's mapping, with :class:`BooleanWord` in it; an empty file is an empty one."""
    try:
        values = parse_yaml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"{path} can't be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path} is not UTF-8: its byte {error.start} is none. Save it as UTF-8.") from error
    except ValueError as error:
        raise ConfigurationError(f"{path} is not YAML: {error}") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigurationError(f"{path} holds a {type(values).__name__}, not a mapping of keys.")
    return values


def read_yaml(path: Path) -> dict[str, Any]:
    """Return a file's mapping as plain values, where nothing is known of the keys: yes, no, on and off are booleans."""
    plain: dict[str, Any] = plain_values(read_mapping(path))
    return plain


def texts(value: Any) -> Any:
    """Return a setting's value with each :class:`BooleanWord` as text, and as a boolean in another program's section.

    Pydantic makes a boolean of the text where a key takes one.
    """
    if isinstance(value, dict):
        return {key: plain_values(below) if key in OPEN_SECTIONS else texts(below) for key, below in value.items()}
    if isinstance(value, list):
        return [texts(below) for below in value]
    return str(value) if isinstance(value, BooleanWord) else value


def plain_values(value: Any) -> Any:
    """Return values with each :class:`BooleanWord` replaced by its boolean."""
    if isinstance(value, dict):
        return {key: plain_values(below) for key, below in value.items()}
    if isinstance(value, list):
        return [plain_values(below) for below in value]
    return bool(value) if isinstance(value, BooleanWord) else value
