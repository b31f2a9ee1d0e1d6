"""A number with its 95 % interval: what the statistics give and what every document keeps."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Interval:
    """A number and the ends of its 95 % interval, in the unit of the number.

    `value` is None where the number is undefined; `low` and `high` are None where there is no interval.
    """

    value: float | None
    low: float | None = None
    high: float | None = None

    @property
    def excludes_zero(self) -> bool:
        """Whether there is an interval, and 0 is not in it."""
        return self.low is not None and self.high is not None and not self.low <= 0 <= self.high


@dataclass(frozen=True)
class Estimate(Interval):
    """An interval over independent units.

    `n`: units that the number is made from. `usable`: share of the resamples that define it.
    """

    n: int = 0
    usable: float = 0.0


@dataclass(frozen=True)
class Difference(Estimate):
    """How much one score exceeds another on the same images.

    `p`: of no difference, two-sided. `detectable`: the smallest true difference that would be called better or worse
    with a probability of 80 %. Both are None where there is no interval. `verdict`: one of `verdicts.VERDICTS`; None
    where there is none, for the reason that `why` names. Both are set when all verdicts of a table are known.
    """

    p: float | None = None
    detectable: float | None = None
    verdict: str | None = None
    why: str | None = None


UNDEFINED = Estimate(None)
