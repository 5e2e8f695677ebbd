"""The checks of `promtool check metrics` on a text in Prometheus' format, for machines without promtool.

The format's own rules, of which prometheus_client's parser forgives many, and promtool's lint rules under their names.
"""

import math
import re
import shutil
import subprocess
from dataclasses import dataclass, field
from itertools import pairwise

_NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
_LABEL = r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\[\\"n])*)"'
_SAMPLE = re.compile(rf"({_NAME})(?:\{{({_LABEL}(?:,{_LABEL})*,?)?\}})? (\S+)(?: (-?\d+))?")
_TYPES = ("counter", "gauge", "histogram", "summary", "untyped")
# promtool's table of units that are not base units, in short
_OTHER_UNITS = (
    "milliseconds",
    "microseconds",
    "nanoseconds",
    "minutes",
    "hours",
    "days",
    "bits",
    "kilobytes",
    "percent",
)
_ABBREVIATIONS = ("s", "ms", "us", "ns", "sec", "b", "kb", "mb", "gb", "pct")


@dataclass
class Family:
    """A metric with its samples: (name, labels, value)."""

    name: str
    kind: str = "untyped"
    text: str = ""
    samples: list[tuple[str, dict[str, str], float]] = field(default_factory=list)


def parse(text: str) -> dict[str, Family]:
    """Return the families of an exposition; ValueError names the line that breaks the format."""
    if not text.endswith("\n"):
        raise ValueError("the last line does not end")
    families: dict[str, Family] = {}
    current = ""
    for line in text.splitlines():
        if line.startswith(("# HELP ", "# TYPE ")):
            current = _read_comment(line, families)
        elif line and not line.startswith("#"):
            current = _read_sample(line, families, current)
    return families


def _read_comment(line: str, families: dict[str, Family]) -> str:
    _, word, name, rest = [*line.split(" ", 3), ""][:4]
    family = families.setdefault(name, Family(name))
    if family.samples or (word == "TYPE" and rest not in _TYPES):
        raise ValueError(line)
    family.text, family.kind = (rest, family.kind) if word == "HELP" else (family.text, rest)
    return name


def _read_sample(line: str, families: dict[str, Family], current: str) -> str:
    found = _SAMPLE.fullmatch(line)
    if found is None:
        raise ValueError(line)
    pairs, name = re.findall(_LABEL, found[2] or ""), _owner(found[1], families)
    labels, family = dict(pairs), families.setdefault(name, Family(name))
    if len(labels) != len(pairs):
        raise ValueError(f"a label twice: {line}")
    if name != current and family.samples:
        raise ValueError(f"{name} is not in one piece")
    if any(sample[:2] == (found[1], labels) for sample in family.samples):
        raise ValueError(f"the same sample twice: {line}")
    family.samples.append((found[1], labels, float(found[7].replace("Inf", "inf"))))
    return name


def _owner(sample: str, families: dict[str, Family]) -> str:
    """Return the family that a sample belongs to: a histogram's samples have names of their own."""
    for ending in ("_bucket", "_count", "_sum"):
        name = sample.removesuffix(ending)
        if name != sample and name in families and families[name].kind in ("histogram", "summary"):
            return name
    return sample


def lint(families: dict[str, Family]) -> list[str]:
    """Return what promtool would complain about."""
    found = []
    for family in families.values():
        words = family.name.split("_")
        rules = {
            "no help text": not family.text,
            "no type": family.kind == "untyped",
            'counter metrics should have "_total" suffix': family.kind == "counter" and words[-1] != "total",
            'non-counter metrics should not have "_total" suffix': family.kind != "counter" and words[-1] == "total",
            "reserved suffix": family.kind != "histogram" and words[-1] in ("bucket", "count", "sum"),
            "metric name should not include type": any(kind in words for kind in _TYPES),
            "metric names should not contain ':'": ":" in family.name,
            "metric names should be written in 'snake_case'": family.name != family.name.lower(),
            "use base unit": any(unit in words for unit in _OTHER_UNITS),
            "metric names should not contain abbreviated units": any(short in words for short in _ABBREVIATIONS),
            "non-histogram metrics should not have le": family.kind != "histogram" and _has_label(family, "le"),
            "non-summary metrics should not have quantile": _has_label(family, "quantile"),
            "label names should be written in 'snake_case'": any(
                label != label.lower() for _, labels, _ in family.samples for label in labels
            ),
            "broken histogram": family.kind == "histogram" and not _is_histogram(family),
            "a counter below 0": family.kind == "counter" and any(value < 0 for _, _, value in family.samples),
        }
        found += [f"{family.name} {rule}" for rule, broken in rules.items() if broken]
    return found


def _has_label(family: Family, name: str) -> bool:
    return any(name in labels for _, labels, _ in family.samples)


def _is_histogram(family: Family) -> bool:
    """Whether each series has rising buckets up to +Inf, which is its count, and a sum."""
    series: dict[tuple[tuple[str, str], ...], dict[str, list[tuple[float, float]]]] = {}
    for name, labels, value in family.samples:
        key = tuple(sorted((label, text) for label, text in labels.items() if label != "le"))
        bound = float(labels.get("le", "nan").replace("Inf", "inf"))
        series.setdefault(key, {}).setdefault(name.removeprefix(family.name), []).append((bound, value))
    for parts in series.values():
        buckets = parts.get("_bucket", [])
        rising = all(a < b and m <= n for (a, m), (b, n) in pairwise(buckets))
        if not (buckets and rising and buckets[-1][0] == math.inf and len(parts.get("_sum", [])) == 1):
            return False
        if parts.get("_count", [(0, -1.0)])[0][1] != buckets[-1][1]:
            return False
    return True


def promtool_says(text: str) -> str | None:
    """Return what promtool complains about, empty when nothing; None where there is no promtool."""
    promtool = shutil.which("promtool")
    if promtool is None:
        return None
    done = subprocess.run(
        [promtool, "check", "metrics"], input=text, capture_output=True, text=True, timeout=60, check=False
    )
    return done.stdout + done.stderr if done.returncode else ""
