"""The time that each replica of a model has stood still with requests in it.

The progress of all replicas together says nothing about one that hangs: seven others go on. So each has a clock of its
own, which runs while the replica holds requests and its steps don't rise, and begins again with its next step.
"""

from collections import defaultdict

from daemon.engines.contract import Engine


class ReplicaStalls:
    """The clocks of an engine's replicas. An engine of one replica, or without statistics, has none."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._seen: dict[int, int] = {}  # the steps of each replica at the last look
        self._stalled_s = defaultdict[int, float](float)

    def look(self, passed_s: float) -> None:
        """Look at the replicas ``passed_s`` after the last look."""
        statistics = self._engine.statistics
        if statistics is None or len(statistics.replicas) < 2:
            return
        held = statistics.held()
        for number, replica in statistics.replicas.items():
            stands_still = held[number] and replica.steps == self._seen.get(number)
            self._stalled_s[number] = self._stalled_s[number] + passed_s if stands_still else 0.0
            self._seen[number] = replica.steps

    @property
    def longest_s(self) -> float:
        """The time of the replica that has stood still for longest."""
        return max(self._stalled_s.values(), default=0.0)

    def over(self, limit_s: float) -> str:
        """Return which replicas have stood still for ``limit_s``, and with how many requests; empty if none has."""
        statistics = self._engine.statistics
        found = sorted(number for number, stalled_s in self._stalled_s.items() if stalled_s >= limit_s)
        if statistics is None or not found:
            return ""
        held, count = statistics.held(), len(statistics.replicas)
        return ", ".join(f"replica {number} (of {count}, from 0; it holds {held[number]} requests)" for number in found)
