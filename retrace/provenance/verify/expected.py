"""`expected:` values: test that a rerun over several seeds is no worse than the stated value minus its tolerance.

One-sided one-sample t-test of non-inferiority, in the spirit of MLPerf's reference convergence points
(mlcommons/training_policies, "Reference Convergence Points": a submission's runs against the reference's, one-sided).
H0: the mean over seeds is at or below `value - tolerance`. A rerun passes when H0 is rejected at ALPHA. With one seed
there is no spread to test against: the single score must then reach the bound, and the verdict says so.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from retrace.config.schema import Expected, Params
from retrace.documents.provenance import Provenance

ALPHA = 0.05


@dataclass(frozen=True)
class Verdict:
    """`passed`; `mean` over the seeds; `p` of the test and its `power` at the stated value (both None: one seed)."""

    passed: bool
    mean: float
    p: float | None
    power: float | None

    def describe(self, wanted: Expected) -> str:
        """One line for the user."""
        bound = wanted.value - wanted.tolerance
        text = f"{wanted.metric}, {wanted.split}: mean {self.mean:.4f}, required at least {bound:.4f}"
        if self.p is None:
            return f"{text}; one seed, so no test: {'reached' if self.passed else 'not reached'}"
        share = f"{100 * (self.power or 0):.0f} %"
        return (
            f"{text}; one-sided t-test p = {self.p:.3f}: {'no worse' if self.passed else 'not shown to be no worse'} "
            f"(with a true mean of {wanted.value:g}, {share} of reruns pass at this spread)"
        )


def judge(wanted: Expected, scores: Sequence[float]) -> Verdict:
    """The verdict on the scores of one rerun for each seed (at least one).

    Seeds without any spread need no test: they all pass or all fail.
    """
    from scipy import stats

    bound, n = wanted.value - wanted.tolerance, len(scores)
    mean = sum(scores) / n
    if n == 1:
        return Verdict(mean >= bound, mean, None, None)
    spread = math.sqrt(sum((score - mean) ** 2 for score in scores) / (n - 1))
    if spread < 1e-12:
        return Verdict(mean >= bound, mean, 0.0 if mean >= bound else 1.0, 1.0)
    p = float(stats.t.sf((mean - bound) / (spread / math.sqrt(n)), n - 1))
    return Verdict(p < ALPHA, mean, p, power(n, wanted.tolerance / spread))


def power(seeds: int, distance: float) -> float:
    """Chance that a rerun passes whose true mean lies `distance` standard deviations (over seeds) above the bound.

    From the noncentral t distribution with `seeds - 1` degrees of freedom.
    """
    from scipy import stats

    limit = stats.t.isf(ALPHA, seeds - 1)
    return float(stats.nct.sf(limit, seeds - 1, distance * math.sqrt(seeds)))


def seeds_of(params: Params) -> list[int]:
    """Every seed that some expected value states, and the study's own; sorted."""
    return sorted({params.seed, *(seed for wanted in params.expected for seed in wanted.seeds)})


@dataclass(frozen=True)
class Processor:
    """Where a rerun computes: instruction set, the CPU's name (None: not known) and kind of device, e.g. "cpu".

    card: of a GPU, as `card_name` writes it.
    """

    architecture: str
    cpu: str | None
    device: str
    card: str | None = None


def card_name(name: str, capability: str | None) -> str:
    """A kind of GPU; two of a kind compute the same bits."""
    return f"{name} ({capability})" if capability else name


def recorded_on(origin: Provenance) -> list[str]:
    """The kinds of GPU that a record names, or the devices where it names none."""
    return [card_name(card.name, card.capability) for card in origin.hardware.cards] or list(origin.devices)


def incomparable(params: Params, origin: Provenance | None, here: Processor) -> str | None:
    """Why a rerun would show nothing: its bits are those of another card and no tolerance is stated. Else None."""
    if params.expected or origin is None or here.device == "cpu" == "".join(origin.devices):
        return None
    recorded, where = recorded_on(origin), here.card or here.device
    if not origin.devices or recorded == [where]:
        return None
    return (
        f"not comparable on another card: recorded on {', '.join(recorded)}, here {where}, and the study states no "
        "`expected` values with a tolerance; verify it where it was recorded, or state them"
    )


def demands_bits(params: Params, origin: Provenance | None, here: Processor) -> tuple[bool, str]:
    """Whether the rerun must give the same bytes, and why.

    Portable results are the same on every x86-64 processor with AVX2, native ones on the recorded kind of CPU.
    So are those of a GPU on another of its kind. Elsewhere the last bits may differ and the `expected:` values decide;
    where none is stated, only bytes count.
    """
    recorded = origin.devices if origin is not None else []
    if origin is not None and here.card is not None and recorded_on(origin) == [here.card]:
        return True, "the same kind of card as recorded"
    if not params.expected:
        return True, "the study states no `expected` values, so the bytes must be the same"
    if recorded not in ([], ["cpu"]) or here.device != "cpu":
        made_on = ", ".join(recorded_on(origin)) if origin is not None else ""
        return False, f"recorded on {made_on or 'an unknown device'}, rerun on {here.card or here.device}"
    if origin is None:
        return True, "a CPU, as far as is known"
    architecture = origin.architecture or here.architecture
    if architecture != here.architecture:
        return False, f"recorded on {architecture}, rerun on {here.architecture}"
    if origin.numerics == "portable" and here.architecture == "x86_64":
        return True, "portable numerics give the same bits on every x86-64 processor with AVX2"
    if origin.cpu not in (None, here.cpu):
        return False, f"recorded on {origin.cpu}, rerun on {here.cpu}"
    return True, "the same kind of CPU as recorded" if origin.cpu else "a CPU, as recorded"
