"""``captiond score``: which references are a caption's, what is counted, and what is shown."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from connectors.captions import Caption, CaptionStatus, FramesShown, WindowSpan
from connectors.messages.codec import caption_to_json
from daemon import __main__ as command_line
from daemon.commands.references import References, read_captions
from daemon.commands.scoring import score as command
from daemon.commands.scoring.scorers import Pair, Scores, score
from daemon.windows import NS_PER_S
from tests.corpus.clips import Recipe, make


def line(clip: str, index: int, text: str, source: str = "inbox", status: CaptionStatus = CaptionStatus.SUCCESS) -> str:
    span = WindowSpan(index, index * NS_PER_S, (index + 1) * NS_PER_S)
    shown = FramesShown((index * NS_PER_S, index * NS_PER_S + NS_PER_S // 2), 2)
    identity = f"{source}/{clip}/{index}"
    caption = Caption(identity, clip, source, span, text, status, "model", "prompt", "plan", frames=shown)
    return caption_to_json(caption, f"{clip}.mp4").decode()


def write(path: Path, *lines: str | dict[str, Any]) -> Path:
    path.write_text("".join((one if isinstance(one, str) else json.dumps(one)) + "\n" for one in lines))
    return path


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int:
    monkeypatch.setattr("sys.argv", ["captiond", "score", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        command_line.main()
    return int(ended.value.code or 0)


def test_references_are_of_a_clip_a_window_or_a_span(tmp_path: Path) -> None:
    (caption,) = read_captions(write(tmp_path / "captions", line("a", 2, "x")))
    references = References.read(
        write(
            tmp_path / "references",
            {"clip_name": "a.mp4", "captions": ["of all of it", "in other words"]},
            {"clip_id": "a", "window": 2, "text": "of the window"},
            {"clip_id": "a", "window": 1, "text": "of another"},
            {"clip_name": "a.mp4", "start_s": 2.4, "end_s": 5.0, "captions": ["of most of it"]},
            {"clip_name": "a.mp4", "start_s": 2.6, "end_s": 5.0, "captions": ["of less"]},
            {"clip_name": "b.mp4", "captions": ["of another clip"]},
            {"clip_name": "a.mp4", "prompt": "alert", "captions": ["of another question"]},
            line("a", 2, "another run's"),
        )
    )

    assert set(references.of(caption)) == {
        *("of all of it", "in other words", "of the window", "of most of it", "another run's"),
    }


@pytest.mark.parametrize("wrong", ['{"captions": ["x"]}', '{"clip_name": "a"}', "{", '{"clip_id": "a", "start_s": 1}'])
def test_a_line_that_is_no_reference_is_named(
    wrong: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    captions = write(tmp_path / "captions", line("a", 0, "x"))
    references = write(tmp_path / "references", {"clip_id": "a", "text": "x"}, wrong)

    assert run(monkeypatch, captions, references) == 78
    assert f"{references}:2" in capsys.readouterr().err.replace("\n", "")


def words_shared(pairs: Sequence[Pair]) -> tuple[Scores, list[Scores]]:
    """Stand in for the scorers: the share of a caption's words that are in its first reference."""
    each = [len(set(text.split()) & set(to[0].split())) / max(len(text.split()), 1) for text, to in pairs]
    return Scores(*[sum(each) / len(each)] * 3), [Scores(one, one, one) for one in each]


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path, Path]:
    monkeypatch.setattr(command, "score", words_shared)
    captions = write(
        tmp_path / "captions.jsonl",
        *(line("a", index, f"a red square {index}") for index in range(12)),
        line("a", 12, "nobody wrote of this"),
        line("b", 0, "", source="yard", status=CaptionStatus.EMPTY),
    )
    other = write(tmp_path / "other.jsonl", *(line("a", index, "a red square 3") for index in range(12)))
    references = write(
        tmp_path / "references.jsonl",
        *({"clip_name": "a.mp4", "window": index, "captions": ["a red square 3"]} for index in range(12)),
        {"clip_name": "b.mp4", "captions": ["a dog"]},
    )
    return captions, references, other


def test_each_source_has_its_scores_and_the_worst_are_named(
    files: tuple[Path, Path, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    captions, references, _ = files

    assert run(monkeypatch, captions, references, "--format", "json") == 0
    report = json.loads(capsys.readouterr().out)
    assert [(one["source"], one["captions"], one["unscored"]) for one in report["sources"]] == [
        ("inbox", 12, 1),
        ("yard", 1, 0),
    ]
    assert len(report["worst"]) == 10
    assert report["worst"][0]["source"] == "yard"
    assert 3 not in [one["window"] for one in report["worst"]]

    assert run(monkeypatch, captions, references) == 0
    text = capsys.readouterr().out
    assert "yard b.mp4" in text
    assert "nothing (empty)" in text


def test_two_runs_are_compared_window_by_window(
    files: tuple[Path, Path, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    captions, references, other = files

    assert run(monkeypatch, captions, references, "--against", other, "--format", "json") == 0
    report = json.loads(capsys.readouterr().out)
    assert [one["window"] for one in report["windows"]] == list(range(12))
    assert sum(one["against"]["cider"] > one["cider"] for one in report["windows"]) == 11

    assert run(monkeypatch, captions, references, "--against", other) == 0
    row = next(row for row in capsys.readouterr().out.splitlines() if "11" in row and "+" in row)
    assert [part for part in row.replace("│", " ").split() if part.isdigit()] == ["12", "11", "0", "1"]


def test_the_worst_are_drawn_with_the_frames_that_the_model_saw(
    files: tuple[Path, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    captions, references, _ = files
    (tmp_path / "clips").mkdir()
    make(tmp_path / "clips" / "a", Recipe(frames=75))

    assert run(monkeypatch, captions, references, "--clips", tmp_path / "clips", "--out", tmp_path / "out") == 0
    with Image.open(tmp_path / "out" / "contact_sheet.png") as sheet:
        assert sheet.height > 10 * 100
        assert sheet.width > 2 * 160


def test_a_name_that_leads_out_of_the_folder_is_not_opened(
    files: tuple[Path, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside = tmp_path / "outside.mp4"
    make(outside.with_suffix(""), Recipe(frames=25))
    (tmp_path / "clips").mkdir()
    hostile = line("a", 3, "a").replace("a.mp4", f"../{outside.name}")
    captions = write(tmp_path / "hostile", hostile)
    references = write(tmp_path / "one", {"clip_id": "a", "captions": ["a"]})

    assert run(monkeypatch, captions, references, "--clips", tmp_path / "clips", "--out", tmp_path / "out") == 0
    with Image.open(tmp_path / "out" / "contact_sheet.png") as sheet:
        assert sheet.height < 100


def test_no_reference_of_these_captions_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    captions = write(tmp_path / "captions", line("a", 0, "x"))

    assert run(monkeypatch, captions, write(tmp_path / "references", {"clip_id": "b", "text": "x"})) == 78


def test_scores_are_those_of_cocos_scorers() -> None:
    pytest.importorskip("pycocoevalcap")
    pairs = [
        ("A red square moves left.", ["a red square moves to the left"]),
        ("a dog", ["a dog runs", "a dog is running"]),
        ("The cat sat on the mat, today", ["the cat sat on a mat"]),
        ("a man is walking down a street", ["a man walks down the street", "someone is walking down a street"]),
        ("", ["nothing is said of it"]),
    ]

    together, each = score(pairs[:4])

    assert together.cider == pytest.approx(4.66740286)
    assert together.bleu_4 == pytest.approx(0.57288752)
    assert together.rouge_l == pytest.approx(0.78531819)
    assert [one.cider for one in each] == pytest.approx([5.61172419, 3.21437135, 5.34460055, 4.49891535])
    assert score(pairs)[1][4].rouge_l == 0
