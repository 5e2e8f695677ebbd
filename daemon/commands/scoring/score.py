"""`captiond score`: how near captions are to what people wrote, by source, and which are furthest."""

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from connectors.errors import ConfigurationError, ExitCode
from connectors.messages.schema import CaptionMessage
from daemon.commands.one_shot import clock
from daemon.commands.references import References, read_captions
from daemon.commands.scoring.pictures import draw_worst
from daemon.commands.scoring.scorers import Scores, score
from daemon.commands.terminal import say, say_json, show_table

_WORST = 10
_ALIKE = 1e-9
_COLUMNS = ("CIDEr", "BLEU-4", "ROUGE-L")

Group = tuple[str, str | None]
"""A source and the name of a question, where it has one."""


@dataclass(frozen=True, slots=True)
class Scored:
    """A caption with the texts that it was scored against, and its scores."""

    caption: CaptionMessage
    against: Sequence[str]
    scores: Scores


@dataclass(frozen=True, slots=True)
class Summary:
    """What is said of one source and question."""

    scores: Scores
    captions: list[Scored]
    unscored: int


async def score_captions(
    captions: Path, references: Path, against: Path | None, clips: Path | None, out: Path | None, form: str
) -> ExitCode:
    """Print a table for each source and the worst captions; with ``against`` how another run differs.

    Where ``clips`` holds the clips, the frames that the worst captions are about are drawn on one sheet beneath
    ``out``.
    """
    said, other = References.read(references), None
    mine = _summaries(read_captions(captions), said)
    if against is not None:
        other = _summaries(read_captions(against), said)
    worst = _worst(mine)
    if form == "json":
        say_json(json.dumps(_report(mine, worst, other)))
    else:
        _show(mine, worst, other)
    if clips is not None:
        path = await draw_worst([(one.caption, _lines(one)) for one in worst], clips, out or Path())
        if path is not None and form != "json":
            say(f"The frames of these are on {path}.")
    return ExitCode.CLEAN


def _summaries(captions: Sequence[CaptionMessage], references: References) -> dict[Group, Summary]:
    groups = defaultdict[Group, list[tuple[CaptionMessage, list[str]]]](list)
    for caption in captions:
        groups[caption.source, caption.prompt].append((caption, references.of(caption)))
    found = {}
    for group, each in groups.items():
        pairs = [(caption, against) for caption, against in each if against]
        if pairs:
            all_scores, scores = score([(caption.text, against) for caption, against in pairs])
            scored = [Scored(*pair, one) for pair, one in zip(pairs, scores, strict=True)]
            found[group] = Summary(all_scores, scored, len(each) - len(pairs))
    if not found:
        raise ConfigurationError("no reference is about one of these captions", path="references")
    return found


def _worst(summaries: dict[Group, Summary]) -> list[Scored]:
    scored = [one for summary in summaries.values() for one in summary.captions]
    return sorted(scored, key=lambda one: (one.scores.cider, one.scores.rouge_l, one.caption.caption_id))[:_WORST]


def _show(mine: dict[Group, Summary], worst: Sequence[Scored], other: dict[Group, Summary] | None) -> None:
    console = Console()
    for group, summary in mine.items():
        table = Table("captions", "unscored", *_COLUMNS, title=_named(group))
        table.add_row(str(len(summary.captions)), str(summary.unscored), *_figures(summary.scores))
        show_table(table, to=console)
    say(f"The {len(worst)} worst:", to=console)
    for one in worst:
        for line in _lines(one):
            say(line, to=console)
    if other is not None:
        _show_differences(mine, other, console)


def _show_differences(mine: dict[Group, Summary], other: dict[Group, Summary], console: Console) -> None:
    for group in mine:
        pairs = list(_both(mine, other, group))
        gained = [theirs.scores.cider - ours.scores.cider for ours, theirs in pairs]
        table = Table("windows in both", "better", "worse", "alike", "mean CIDEr", title=f"{_named(group)}, against")
        better, worse = (sum(one > _ALIKE for one in gained), sum(one < -_ALIKE for one in gained))
        mean = sum(gained) / len(gained) if gained else 0.0
        counts = (len(pairs), better, worse, len(pairs) - better - worse)
        table.add_row(*map(str, counts), f"{mean:+.3f}")
        show_table(table, to=console)
        for ours, theirs in sorted(pairs, key=lambda pair: -abs(pair[1].scores.cider - pair[0].scores.cider))[:_WORST]:
            change = theirs.scores.cider - ours.scores.cider
            if abs(change) > _ALIKE:
                say(f"{_place(ours.caption)}  {change:+.3f}", to=console)
                say(f"    was: {ours.caption.text}", to=console)
                say(f"    is:  {theirs.caption.text}", to=console)


def _both(mine: dict[Group, Summary], other: dict[Group, Summary], group: Group) -> Iterator[tuple[Scored, Scored]]:
    """Yield the captions of both runs about the same window."""
    theirs = {_key(one.caption): one for one in other[group].captions} if group in other else {}
    for one in mine[group].captions:
        if (same := theirs.get(_key(one.caption))) is not None:
            yield one, same


def _key(caption: CaptionMessage) -> tuple[str, int, int]:
    return caption.clip_name or caption.clip_id, caption.window.start_ns, caption.window.exclusive_end_ns


def _report(mine: dict[Group, Summary], worst: Sequence[Scored], other: dict[Group, Summary] | None) -> dict[str, Any]:
    def of(summaries: dict[Group, Summary]) -> list[dict[str, Any]]:
        return [
            {
                "source": source,
                "prompt": prompt,
                "captions": len(summary.captions),
                "unscored": summary.unscored,
                **asdict(summary.scores),
            }
            for (source, prompt), summary in summaries.items()
        ]

    report: dict[str, Any] = {"sources": of(mine), "worst": [_row(one) for one in worst]}
    if other is not None:
        report["against"] = of(other)
        report["windows"] = [
            {**_row(ours), "against": {"text": theirs.caption.text, **asdict(theirs.scores)}}
            for group in mine
            for ours, theirs in _both(mine, other, group)
        ]
    return report


def _row(one: Scored) -> dict[str, Any]:
    caption = one.caption
    return {
        "source": caption.source,
        "prompt": caption.prompt,
        "clip_id": caption.clip_id,
        "clip_name": caption.clip_name,
        "window": caption.window.index,
        "text": caption.text,
        "references": list(one.against),
        **asdict(one.scores),
    }


def _lines(one: Scored) -> list[str]:
    figures = " ".join(f"{name} {value}" for name, value in zip(_COLUMNS, _figures(one.scores), strict=True))
    return [
        f"{_place(one.caption)}  {figures}",
        f"    said:      {one.caption.text or f'nothing ({one.caption.status})'}",
        f"    reference: {one.against[0]}" + (f" (and {len(one.against) - 1} more)" if len(one.against) > 1 else ""),
    ]


def _place(caption: CaptionMessage) -> str:
    span = f"{clock(caption.window.start_ns)} - {clock(caption.window.exclusive_end_ns)}"
    return f"{caption.source} {caption.clip_name or caption.clip_id} {span}"


def _figures(scores: Scores) -> tuple[str, str, str]:
    return f"{scores.cider:.3f}", f"{scores.bleu_4:.3f}", f"{scores.rouge_l:.3f}"


def _named(group: Group) -> str:
    source, prompt = group
    return source if prompt is None else f"{source}, {prompt}"
