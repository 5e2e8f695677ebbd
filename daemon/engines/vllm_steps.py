"""vLLM's steps as statistics: every step of the engine is one call to a logger. Imports no vLLM."""

from dataclasses import dataclass
from typing import Any

from daemon.engines.contract import EngineStatistics


@dataclass
class StepLogger:
    """Has the methods that vLLM calls on a logger of statistics."""

    statistics: EngineStatistics

    def __call__(self, *_: Any) -> "StepLogger":
        """Return itself: vLLM is given factories of loggers."""
        return self

    def record(self, scheduler_stats: Any, iteration_stats: Any, *_: Any, **__: Any) -> None:
        """Note one step."""
        self.statistics.steps += 1
        if scheduler_stats is not None:
            self.statistics.running = scheduler_stats.num_running_reqs
            self.statistics.waiting = scheduler_stats.num_waiting_reqs
            self.statistics.kv_cache_usage = scheduler_stats.kv_cache_usage

    def log_engine_initialized(self) -> None:
        """Say nothing."""

    def log(self) -> None:
        """Say nothing."""

    def record_sleep_state(self, *_: Any, **__: Any) -> None:
        """Say nothing."""
