"""The settings of windows: how a clip is divided, and which windows are not asked about."""

from typing import Any, Literal, Self

from pydantic import Field, PositiveFloat, model_validator

from connectors.section import Section
from daemon.content.shots import shot_detector
from daemon.content.spans import UnchangedPolicy
from daemon.windows import NS_PER_S, ShotPolicy, WindowPolicy

_LONGEST_S = 1e9  # thirty years; its nanoseconds fit 64 bits


def _as_number(value: Any) -> float | None:
    """Return a number that may stand as text, as those from the environment do; None for anything else."""
    try:
        return float(value) if isinstance(value, int | float | str) else None
    except (ValueError, OverflowError):
        return None


class UnchangedSettings(Section):
    """Windows whose picture is that of the window described last: the engine is not asked about them."""

    threshold: PositiveFloat = Field(
        4.0, le=255, description="a window differs where a part of its picture does by so many of 255 steps of grey"
    )
    max_age_s: PositiveFloat = Field(
        300.0, le=_LONGEST_S, description="after so much of the clip the engine is asked all the same"
    )

    def to_policy(self) -> UnchangedPolicy:
        """Return the same in integer nanoseconds."""
        return UnchangedPolicy(self.threshold, round(self.max_age_s * NS_PER_S))


class WindowsSettings(Section):
    """The windows that a clip is divided into."""

    policy: Literal["seconds", "whole", "shots"] = Field(
        "seconds", description="windows of window_s, the whole clip as one, or windows that end where the picture cuts"
    )
    window_s: PositiveFloat = Field(10.0, le=_LONGEST_S, description="length of a window")
    stride_s: PositiveFloat = Field(
        10.0, le=_LONGEST_S, description="from one window's start to the next; window_s if left out"
    )
    min_tail_s: float = Field(5.0, ge=0, description="a shorter tail joins the window before; half of window_s")

    min_s: PositiveFloat = Field(2.0, le=_LONGEST_S, description="with shots: shorter ones are joined")
    max_s: PositiveFloat = Field(30.0, le=_LONGEST_S, description="with shots: longer ones are cut evenly")
    sensitivity: float = Field(0.5, ge=0, le=1, description="with shots: how small a change is a cut, from 0 to 1")

    unchanged: UnchangedSettings | None = Field(
        None, description="null: the engine is asked about each window; {}: not about those that show nothing new"
    )

    @model_validator(mode="before")
    @classmethod
    def _follow_window(cls, values: Any) -> Any:
        """Let stride_s and min_tail_s follow a window_s that is given alone."""
        window_s = _as_number(values.get("window_s")) if isinstance(values, dict) else None
        if window_s is None or values.get("policy", "seconds") != "seconds":
            return values
        return {"stride_s": window_s, "min_tail_s": window_s / 2, **values}

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.policy != "seconds" and {"window_s", "stride_s", "min_tail_s"} & self.model_fields_set:
            raise ValueError(f"policy: {self.policy} contradicts window_s, stride_s and min_tail_s")
        if self.policy != "shots" and {"min_s", "max_s", "sensitivity"} & self.model_fields_set:
            raise ValueError(f"policy: {self.policy} contradicts min_s, max_s and sensitivity, which are for shots")
        if self.max_s < 2 * self.min_s:
            raise ValueError(f"max_s ({self.max_s}) is below twice min_s ({self.min_s}): halves would be too short")
        if self.stride_s > self.window_s:
            raise ValueError(f"stride_s ({self.stride_s}) above window_s ({self.window_s}) would leave gaps")
        if self.min_tail_s > self.window_s:
            raise ValueError(f"min_tail_s ({self.min_tail_s}) is above window_s ({self.window_s})")
        return self

    def to_policy(self) -> WindowPolicy:
        """Return the same in integer nanoseconds."""
        if self.policy == "shots":
            min_ns, max_ns = round(self.min_s * NS_PER_S), round(self.max_s * NS_PER_S)
            return WindowPolicy(max_ns, max_ns, 0, shots=ShotPolicy(min_ns, self.sensitivity, shot_detector()))
        window_ns, stride_ns, min_tail_ns = (
            round(seconds * NS_PER_S) for seconds in (self.window_s, self.stride_s, self.min_tail_s)
        )
        return WindowPolicy(window_ns, stride_ns, min_tail_ns, whole=self.policy == "whole")
