"""YAML's surprises: what a file means is what its author wrote, or it is refused with 78 and the place."""

from pathlib import Path
from typing import Any

import pytest

from connectors.errors import ConfigurationError
from daemon.config.file import load, settings_from
from daemon.config.settings import GenerationSettings, LimitsSettings, Settings, TimeoutsSettings, WindowsSettings

PLAIN = "sources: {inbox: {kind: folder, path: inbox}}\nsink: {kind: folder, path: captions}\n"


def read(folder: Path, text: str | bytes, *overrides: str) -> Settings:
    file = folder / "captiond.yaml"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return load(file, overrides)


def test_merge_keys_take_the_anchor_s_keys_and_their_own_win(tmp_path: Path) -> None:
    text = (
        "sources:\n"
        "  door: &camera {kind: folder, path: door, settle_s: 3, frames: &few {num_frames: 4}}\n"
        "  yard: &second {<<: *camera, path: yard, frames: {<<: *few, rule: neva}}\n"
        "  gate: {<<: [*second, *camera], scan_s: 9}\n"
        "sink: {kind: folder, path: captions}\n"
    )
    sources: dict[str, Any] = dict(read(tmp_path, text).sources)

    assert (sources["yard"].path.name, sources["yard"].settle_s) == ("yard", 3.0)
    assert sources["yard"].frames == {"num_frames": 4, "rule": "neva"}
    assert (sources["gate"].path.name, sources["gate"].scan_s) == ("yard", 9.0)


@pytest.mark.parametrize("text", ["no", "on", "Off", "yes", "010", "1:30", "2024-01-01", "1e3", "0x"])
def test_text_stays_text(tmp_path: Path, text: str) -> None:
    settings = read(tmp_path, PLAIN + f"prompt: {{text: {text}}}\ngeneration: {{stop: [{text}]}}\n")

    assert settings.prompt.text == text
    assert settings.generation.stop == (text,)


def test_a_name_is_text(tmp_path: Path) -> None:
    settings = read(
        tmp_path,
        "sources: {no: {kind: folder, path: a}, 7: {kind: folder, path: b}}\nsink: {kind: folder, path: captions}\n",
    )

    assert list(settings.sources) == ["no", "7"]


def test_words_for_booleans_are_booleans_where_one_is_wanted(tmp_path: Path) -> None:
    kafka = "sources: {clips: {kind: kafka, bootstrap_servers: 'a:1', topics: [no], senders_may: {prompt: no}}}\n"
    settings = read(tmp_path, kafka + PLAIN.splitlines()[1] + "\nengine: {args: {a: yes, b: {c: off}, d: 'yes'}}\n")
    source: Any = settings.sources["clips"]
    engine: Any = settings.engine

    assert (source.topics, source.senders_may.prompt) == (("no",), False)
    assert engine.args == {"a": True, "b": {"c": False}, "d": "yes"}


def test_a_number_with_a_leading_zero_is_decimal(tmp_path: Path) -> None:
    assert read(tmp_path, PLAIN + "windows: {window_s: 010}\n").windows.window_s == 10.0


REFUSED = [
    ("prompt: {text: 5}\n", r"prompt\.text: .*it is 5: as text it stands in quotes"),
    ("windows: {window_s: 1:30}\n", r"windows\.window_s: .*'1:30'"),
    (f"windows: {{window_s: 1{'0' * 5000}}}\n", r"(?s)no int.*line 3"),
    ("a: [\n", "(?s)is not YAML.*line 4"),
    ("a:\n\tb: 1\n", "(?s)is not YAML.*line 4"),
    ("a: &a [*a]\n", "an anchor that contains itself"),
    (f"a: {'[' * 5000}{']' * 5000}\n", "nested too deeply"),
    ("windows: {window_s: 1, window_s: 2}\n", "the key 'window_s' stands twice"),
    ("? [a]\n: 1\n", "unhashable key"),
    ("a: !!timestamp soon\n", "(?s)no timestamp.*line 3"),
    ("a: !!python/object/apply:os.getcwd []\n", "could not determine a constructor"),
    ("---\nb: 1\n", "expected a single document"),
]


@pytest.mark.parametrize(("more", "message"), REFUSED, ids=[message for _, message in REFUSED])
def test_refused_with_the_key_or_the_line(tmp_path: Path, more: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        read(tmp_path, PLAIN + more)


@pytest.mark.parametrize("uses", ["[{}]", "{{<<: [{}], k: 1}}"], ids=["lists", "merge keys"])
def test_anchors_that_multiply_are_refused_at_once(tmp_path: Path, uses: str) -> None:
    first = "[x]" if uses.startswith("[") else "{x: 1}"
    levels = [f"a0: &a0 {first}"]
    levels += [f"a{n}: &a{n} {uses.format(','.join([f'*a{n - 1}'] * 9))}" for n in range(1, 30)]

    with pytest.raises(ConfigurationError, match="each use of an anchor counted"):
        read(tmp_path, PLAIN + "\n".join(levels))


@pytest.mark.parametrize(
    "text",
    [b"\xef\xbb\xbf" + PLAIN.encode(), PLAIN.replace("\n", "\r\n").encode()],
    ids=["byte order mark", "line ends of Windows"],
)
def test_files_as_editors_write_them(tmp_path: Path, text: bytes) -> None:
    assert list(read(tmp_path, text).sources) == ["inbox"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (PLAIN.encode("utf-16"), "is not UTF-8"),
        (b"prompt: {text: caf\xe9}\n", "is not UTF-8: its byte 18"),
        (b"", "sources: this key is needed"),
        (b"- a\n", "holds a list, not a mapping"),
    ],
)
def test_files_that_are_none(tmp_path: Path, text: bytes, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        read(tmp_path, text)


def _numbers() -> list[str]:
    """Every key of the top level's sections whose value is a number."""
    sections = {"windows": WindowsSettings, "generation": GenerationSettings, "limits": LimitsSettings}
    sections |= {"timeouts": TimeoutsSettings}
    return [
        f"{name}.{key}"
        for name, section in sections.items()
        for key, default in section().model_dump().items()
        if isinstance(default, int | float)
    ] + ["frames.fps", "commit_interval_ms", "engine.args.gpu_memory_utilization", "sources.inbox.windows.window_s"]


@pytest.mark.parametrize("key", _numbers())
@pytest.mark.parametrize("value", [".inf", "-.inf", ".nan", "1" + "0" * 400])
def test_every_number_can_be_counted_with(tmp_path: Path, key: str, value: str) -> None:
    with pytest.raises(ConfigurationError, match=key.replace(".", r"\.")):
        read(tmp_path, PLAIN, f"{key}={value}")


@pytest.mark.parametrize("text", ["inf", "-inf", "nan", "1e999"])
def test_infinities_as_text_are_refused_too(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"timeouts\.drain_s: .*finite number"):
        read(tmp_path, PLAIN + f"timeouts: {{drain_s: '{text}'}}\n")


def test_a_dollar_sign_can_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLACE", "the door")

    settings = read(tmp_path, PLAIN + 'prompt: {text: "$${name} costs $$5 or $6 at ${PLACE}, $$$${PLACE}"}\n')

    assert settings.prompt.text == "${name} costs $5 or $6 at the door, $${PLACE}"


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ('prompt: {text: "${A:${B}}"}\n', r"prompt\.text: a default is text"),
        ('sources: {"${NAME}": {kind: folder, path: a}}\n', r"sources\.\$\{NAME\}: .*in values, not in keys"),
        ('generation: {stop: [a, "${NOT_THERE}"]}\n', r"generation\.stop\.1: the environment has no NOT_THERE"),
    ],
)
def test_where_the_environment_is_not_read(tmp_path: Path, more: str, message: str) -> None:
    text = more + "".join(line for line in PLAIN.splitlines(keepends=True) if line.split(":")[0] not in more)

    with pytest.raises(ConfigurationError, match=message):
        read(tmp_path, text)


def test_a_number_from_the_environment_takes_its_companions_along(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LENGTH", "4")
    places = {"sources": {"inbox": {"kind": "folder", "path": "a"}}, "sink": {"kind": "folder", "path": "b"}}

    windows = settings_from({**places, "windows": {"window_s": "${LENGTH}"}}, folder=Path("/")).windows

    assert (windows.window_s, windows.stride_s, windows.min_tail_s) == (4.0, 4.0, 2.0)
