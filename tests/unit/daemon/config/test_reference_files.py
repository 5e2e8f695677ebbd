"""The commented configuration files name every key that there is, with its default and what it means, and no other."""

import re
from dataclasses import dataclass, field
from typing import Annotated, Any, get_args, get_origin

import pytest
import yaml
from pydantic import TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from connectors.section import Section
from daemon.config.file import load
from daemon.config.settings import Settings
from testing.repository import ROOT

CONFIG = ROOT / "config"
REFERENCE = ("captiond.yaml", "kafka.yaml")  # together they hold every key
INSTALLED = "captiond.etc.yaml"  # holds some of them, with values that suit a service

_COMMENTED_OUT = re.compile(r"^( *)# ( *[a-z_][a-z0-9_]*:(?: |$))", re.MULTILINE)
_DEFAULT = re.compile(r"\bdefault: ([^;,]+)")


def uncommented(text: str) -> str:
    """Return the text with the keys behind a # as keys; prose stays a comment."""
    return _COMMENTED_OUT.sub(r"\1\2", text)


def sections_in(annotation: Any) -> list[type[Section]]:
    """Return the section classes that a field may hold: the members of a union, the values of a mapping."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return [annotation]
    return [section for part in get_args(annotation) for section in sections_in(part)]


def is_mapping_of_sections(annotation: Any) -> bool:
    return get_origin(annotation) is dict and bool(sections_in(annotation))


def every_section(top: type[Section]) -> set[type[Section]]:
    """Return a section class and all that its fields lead to."""
    found, left = set[type[Section]](), [top]
    while left:
        section = left.pop()
        if section not in found:
            found.add(section)
            left += [inner for info in section.model_fields.values() for inner in sections_in(info.annotation)]
    return found


def value_of(node: yaml.Node) -> Any:
    return yaml.safe_load(yaml.serialize(node))


def as_field(info: FieldInfo, value: Any) -> Any:
    """Return a value as pydantic reads it for this field: a size as bytes, a list as a tuple."""
    declared = Annotated[(info.annotation, *info.metadata)] if info.metadata else info.annotation
    return TypeAdapter(declared).validate_python(value)


@dataclass
class Reading:
    """What a commented file says, held against the section classes."""

    name: str
    complete: bool = True  # whether each key must stand there with its default and its meaning
    said: set[tuple[type[Section], str]] = field(default_factory=set)
    wrong: list[str] = field(default_factory=list)
    _lines: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, name: str, *, complete: bool = True) -> "Reading":
        text = uncommented((CONFIG / name).read_text())
        return cls.of_text(name, text, complete=complete)

    @classmethod
    def of_text(cls, name: str, text: str, *, complete: bool = True) -> "Reading":
        reading = cls(name, complete, _lines=text.splitlines())
        reading._section([Settings], yaml.compose(text, Loader=yaml.SafeLoader), "")
        return reading

    def _section(self, candidates: list[type[Section]], node: yaml.Node, path: str) -> None:
        """Read one section; among several candidates its ``kind`` chooses. A key may stand twice: two choices."""
        assert isinstance(node, yaml.MappingNode), f"{path} is no section in {self.name}"
        keys = [(key.value, key.start_mark.line, value) for key, value in node.value]
        kind = next((value.value for key, _, value in keys if key == "kind"), None)
        fitting = [one for one in candidates if len(candidates) == 1 or one.model_fields["kind"].default == kind]
        if not fitting:
            self.wrong.append(f"{path}: no section is of kind {kind}")
            return
        (section,) = fitting
        for key, line, value in keys:
            at = f"{path}.{key}" if path else key
            if (info := section.model_fields.get(key)) is None:
                self.wrong.append(f"{at}: there is no such key")
                continue
            self.said.add((section, key))
            self._field(info, value, line, at)
        if path and self.complete:
            self._is_accepted(section, value_of(node), path)

    def _is_accepted(self, section: type[Section], value: Any, path: str) -> None:
        try:
            section.model_validate(value)
        except ValidationError as error:
            self.wrong.append(f"{path}: {error.errors(include_url=False)[0]['msg']}")

    def _field(self, info: FieldInfo, node: yaml.Node, line: int, path: str) -> None:
        sections = sections_in(info.annotation)
        if is_mapping_of_sections(info.annotation):
            for key, value in node.value:  # type: ignore[attr-defined]
                self._section(sections, value, f"{path}.{key.value}")
        elif sections:
            self._section(sections, node, path)
        elif self.complete:
            self._leaf(info, value_of(node), self._comment_on(line), path)

    def _comment_on(self, line: int) -> str:
        return self._lines[line].partition("# ")[2]

    def _leaf(self, info: FieldInfo, value: Any, comment: str, path: str) -> None:
        if not comment:
            self.wrong.append(f"{path}: a comment on its line says what it means")
        if info.is_required():
            if "needed" not in comment:
                self.wrong.append(f"{path}: its comment says that it is needed")
            return
        named = _DEFAULT.search(comment)
        value = yaml.safe_load(named[1]) if named else value
        default = info.get_default(call_default_factory=True, validated_data={})
        said = value if value == default else as_field(info, value)
        if said != default:
            self.wrong.append(f"{path}: its default is {default!r}, not {said!r}")


def unsaid(readings: list[Reading]) -> list[str]:
    """Return the keys of the section classes that no file names."""
    said = set[tuple[type[Section], str]]().union(*(reading.said for reading in readings))
    keys = [(section, key) for section in every_section(Settings) for key in section.model_fields]
    return sorted(f"{section.__name__}.{key}" for section, key in keys if (section, key) not in said)


@pytest.mark.parametrize("name", REFERENCE)
def test_each_key_is_one_and_has_its_default_and_its_meaning(name: str) -> None:
    assert Reading.of(name).wrong == []


@pytest.mark.parametrize("name", REFERENCE)
def test_it_is_accepted_as_it_is(name: str) -> None:
    assert load(CONFIG / name).sources


def test_every_key_is_in_a_commented_file() -> None:
    assert unsaid([Reading.of(name) for name in REFERENCE]) == []


def test_the_installed_file_names_no_other_keys() -> None:
    assert Reading.of(INSTALLED, complete=False).wrong == []


def test_a_key_of_a_class_alone_is_found() -> None:
    reading = Reading.of_text(
        "without_seed", (CONFIG / REFERENCE[0]).read_text().replace("  seed: null", "  # no seed")
    )

    assert "GenerationSettings.seed" in unsaid([reading])


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("decoders: auto ", "decoderz: auto ", "limits.decoderz: there is no such key"),
        ("num_frames: 8 ", "num_frames: 9 ", "frames.num_frames: its default is 8, not 9"),
        ("max_clip_bytes: 2GiB", "max_clip_bytes: 2GB", "limits.max_clip_bytes: its default is 2147483648"),
        ("in_flight_bytes: auto", "in_flight_bytes: 1GB", "limits.in_flight_bytes: its default is 'auto'"),
        ("#   slots: 64 ", "#   slots: 32 ", "engine.slots: its default is 64, not 32"),
        ("snap: exact              #", "snap: exact\n  #", "frames.snap: a comment on its line says what it means"),
        ("path: captions           # needed:", "path: captions  #", "sink.path: its comment says that it is needed"),
        ("kind: folder             #", "kind: floppy  #", "sink: no section is of kind floppy"),
    ],
)
def test_a_file_that_differs_is_found(old: str, new: str, complaint: str) -> None:
    text = uncommented((CONFIG / REFERENCE[0]).read_text().replace(old, new))

    wrong = Reading.of_text("changed", text).wrong

    assert any(line.startswith(complaint) for line in wrong), wrong
