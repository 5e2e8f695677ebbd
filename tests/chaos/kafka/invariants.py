"""Invariants after faults between Kafka topics, read from what the broker and the journals of the daemons say.

Each function is one promise of the fault matrix, by its number there.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from connectors.kafka.offset_ledger import PartitionPosition
from tests.chaos.kafka.evidence import Commit, Letter, Written

Event = Mapping[str, Any]


@dataclass(frozen=True)
class Expected:
    """A record of the input, and what must become of it: ``windows`` captions, or with ``reason`` a rejection too."""

    topic: str
    partition: int
    offset: int
    windows: int
    reason: str | None = None
    clip_id: str = ""

    @property
    def id(self) -> str:
        """The clip's id in captions and dead letters."""
        return self.clip_id or f"{self.topic}/{self.partition}/{self.offset}"


@dataclass
class Findings:
    """What a load ended with; ``repeats`` are the captions after the first of each id."""

    windows: int = 0
    lost: int = 0
    repeats: list[Written] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


def nothing_is_lost(expected: Sequence[Expected], captions: Sequence[Written], letters: Sequence[Letter]) -> Findings:
    """I1: each clip has all its captions, or captions up to exactly one rejection; counts the repeats for I2."""
    found = Findings()
    windows, ids = defaultdict[str, set[int]](set), set[str]()
    for caption in captions:
        windows[caption.clip_id].add(caption.index)
        if caption.caption_id in ids:
            found.repeats.append(caption)
        ids.add(caption.caption_id)
    reasons = defaultdict[str, list[str]](list)
    for letter in letters:
        reasons[letter.clip_id].append(letter.reason)
    for clip in expected:
        found.windows += len(windows[clip.id])
        found.lost += len(set(range(clip.windows)) - windows[clip.id])
        if clip.reason is None and reasons[clip.id]:
            found.wrong.append(f"{clip.id} was rejected: {reasons[clip.id]}")
        if clip.reason is not None and reasons[clip.id] != [clip.reason]:
            found.lost += not reasons[clip.id]
            found.wrong.append(f"{clip.id} was rejected as {reasons[clip.id]}, not once as {clip.reason}")
        if extra := windows[clip.id] - set(range(clip.windows)):
            found.wrong.append(f"{clip.id} has windows that it has not: {sorted(extra)}")
    strangers = (windows.keys() | reasons.keys()) - {clip.id for clip in expected}
    found.wrong += [f"{name} was never sent" for name in sorted(strangers)]
    return found


class Durable:
    """When a commit first said that a window is done, by clip and index, from every commit in order.

    I3 as far as commits alone show it: no commit takes back what an earlier one said.
    """

    def __init__(self, expected: Iterable[Expected], commits: Iterable[Commit]) -> None:
        self.at_ms: dict[tuple[str, int], int] = {}
        self.wrong: list[str] = []
        self._clips = defaultdict[tuple[str, int], list[Expected]](list)
        for clip in expected:
            self._clips[clip.topic, clip.partition].append(clip)
        done: dict[str, int] = {}
        for commit in commits:
            self._take(commit, done)
        self._done = done

    def _take(self, commit: Commit, done: dict[str, int]) -> None:
        for clip in self._clips[commit.topic, commit.partition]:
            before, now = done.get(clip.id, 0), _windows_done(commit.position, clip)
            if now < before:
                self.wrong.append(f"a commit takes {clip.id} back from window {before} to {now}")
            for index in range(before, now):
                self.at_ms.setdefault((clip.id, index), commit.at_ms)
            done[clip.id] = max(now, before)

    def unfinished(self) -> list[str]:
        """Return the clips whose windows the last commits do not all call done."""
        clips = [clip for place in self._clips.values() for clip in place]
        return [clip.id for clip in clips if self._done.get(clip.id, 0) < clip.windows]


def _windows_done(position: PartitionPosition, clip: Expected) -> int:
    if clip.offset in position.unfinished:
        return position.unfinished[clip.offset].next_window
    return clip.windows if clip.offset < position.next_unseen else 0


def output_comes_before_its_position(captions: Sequence[Written], durable: Durable) -> list[str]:
    """I3: when a commit calls a window done, its caption is there (for output that is not in the same transaction)."""
    first: dict[tuple[str, int], int] = {}
    for caption in captions:
        key = caption.clip_id, caption.index
        first[key] = min(first.get(key, caption.at_ms), caption.at_ms)
    return [
        f"window {index} of {clip_id} was called done {at_ms - durable_ms} ms before its caption was there"
        for (clip_id, index), durable_ms in durable.at_ms.items()
        if (at_ms := first.get((clip_id, index), 0)) > durable_ms
    ]


def repeats_were_not_durable(repeats: Sequence[Written], durable: Durable) -> list[str]:
    """I2: what comes twice after a crash was not called done by a commit before."""
    return [
        f"window {caption.index} of {caption.clip_id} came again {caption.at_ms - durable_ms} ms after its commit"
        for caption in repeats
        if caption.at_ms > (durable_ms := durable.at_ms.get((caption.clip_id, caption.index), caption.at_ms))
    ]


def windows_are_in_order(captions: Sequence[Written]) -> list[str]:
    """I4: within a clip, the first occurrences of the window indices ascend."""
    firsts = defaultdict[str, dict[int, None]](dict)
    for caption in captions:
        firsts[caption.clip_id][caption.index] = None
    return [f"{clip}: windows in order {list(seen)}" for clip, seen in firsts.items() if list(seen) != sorted(seen)]


def nothing_is_committed_after_a_revoke(events: Sequence[Event]) -> list[str]:
    """I5: between a revoke and the next assignment of a partition, its daemon commits nothing for it."""
    owned: dict[tuple[int, str], bool] = {}
    wrong = []
    for event in events:
        places = [(event["pid"], place) for place in event.get("places", ())]
        if event["event"] in ("assign", "revoke"):
            owned.update(dict.fromkeys(places, event["event"] == "assign"))
        elif event["event"] == "commit":
            wrong += [
                f"process {pid} committed {place} after its revoke" for pid, place in places if not owned[pid, place]
            ]
    return wrong


def members_stay(generations: Sequence[int]) -> list[str]:
    """I11: the group is not rebalanced while its members are merely slow."""
    return [f"the group went through generations {generations}"] if len(set(generations)) > 1 else []


def oracle_agrees(ours: Sequence[str], kafkas: Sequence[str]) -> list[str]:
    """Kafka's own consumer reads what the tests' own reader reads."""
    missing, extra = Counter(ours) - Counter(kafkas), Counter(kafkas) - Counter(ours)
    if missing or extra:
        return [f"Kafka's console consumer misses {missing.total()} records and has {extra.total()} others"]
    return []
