"""Invariants after faults, read from the files that the daemons left: never from their memory."""

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

_CUE = re.compile(r"^(\d{2,}:)?\d{2}:\d{2}\.\d{3} --> (\d{2,}:)?\d{2}:\d{2}\.\d{3}$")


@dataclass
class Findings:
    """What a load ended with. Everything but ``windows`` must be zero or empty."""

    windows: int = 0
    lost: int = 0
    twice: int = 0
    wrong: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        """Whether every promise held."""
        return not (self.lost or self.twice or self.wrong)


def folder_findings(
    names: Sequence[str], inbox: Path, captions: Path, windows_each: int, questions: Sequence[str | None] = (None,)
) -> Findings:
    """Check that each clip is done and each question about its windows answered exactly once, in order, in both."""
    found = Findings()
    done = {str(path.relative_to(inbox / "done")) for path in (inbox / "done").rglob("*") if path.is_file()}
    for name in names:
        if name not in done:
            found.wrong.append(f"{name} is not in done/")
        _check_clip(name, captions / f"{name}.jsonl", captions / f"{name}.vtt", windows_each, questions, found)
    left = [path for path in (inbox / "work").rglob("*") if path.is_file() and path.suffix == ".mp4"]
    found.wrong += [f"{path.name} is still claimed" for path in left]
    return found


def _check_clip(
    name: str, jsonl: Path, vtt: Path, windows_each: int, questions: Sequence[str | None], found: Findings
) -> None:
    text = jsonl.read_text() if jsonl.is_file() else ""
    if text and not text.endswith("\n"):
        found.wrong.append(f"{jsonl.name} ends with half a line")
    answers = []
    ids: Counter[str] = Counter()
    for line in text.splitlines():
        try:
            message = json.loads(line)
            answers.append((message["window"]["index"], questions.index(message.get("prompt"))))
            ids[message["caption_id"]] += 1
        except (ValueError, KeyError) as error:
            found.wrong.append(f"{jsonl.name}: {error!r} in {line[:80]!r}")
    found.windows += len({index for index, _ in answers})
    wanted = {(index, question) for index in range(windows_each) for question in range(len(questions))}
    found.lost += len(wanted - set(answers))
    found.twice += sum(count - 1 for count in Counter(answers).values()) + sum(count - 1 for count in ids.values())
    if answers != sorted(answers):
        found.wrong.append(f"{name}: answers out of order {answers}")
    problem = webvtt_problem(vtt.read_text() if vtt.is_file() else "", len(answers) // len(questions))
    if problem:
        found.wrong.append(f"{vtt.name}: {problem}")


def webvtt_problem(text: str, cues: int) -> str | None:
    """Return what is wrong with a WebVTT file of ``cues`` cues; None when it is valid."""
    if not (text == "WEBVTT\n" or text.startswith("WEBVTT\n\n") or text.startswith("WEBVTT \n")):
        return "no WEBVTT header"
    blocks = [block for block in text.split("\n\n")[1:] if block.strip()]
    timed = [block for block in blocks if any(_CUE.match(line) for line in block.splitlines()[:2])]
    if len(timed) != cues:
        return f"{len(timed)} cues for {cues} captions"
    if not text.endswith("\n"):
        return "the last line is cut"
    return None
