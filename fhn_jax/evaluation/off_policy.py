"""What another recommender would be worth, from pages that one has shown."""

import dataclasses

import numpy as np
from jaxtyping import Bool, Float, Num

# No outfit counts for more than so many.
MOST_WEIGHT = 20.0
# With fewer visitors, in effect, an interval over them says little.
LEAST_EFFECTIVE = 30
# What was never shown may be liked more or less: of so much nothing need be known.
LEAST_COVERED = 0.8
_RESAMPLES, _CHUNK = 1000, 100
_LEVEL = 0.95


@dataclasses.dataclass(frozen=True)
class OffPolicy:
    """An estimate from what was shown and judged.

    Attributes:
      logged: share liked of all that was shown and judged.
      estimate: of the share that would be liked of what the other one chooses.
      interval, gain: 95 %, of the estimate, and of how much more it is than `logged`.
      effective: size of a sample of visitors, all of one weight, that would say as much.
      visitors, judged: who was shown something, and how many outfits they judged.
      matched: how many of these the other one chooses, too.
      clipped: the share of these that count for less than they should.
      covered: the share of all that the other one chooses that could be shown at all,
        as estimated; what it is worth beyond that is not known.
    """

    logged: float
    estimate: float
    interval: tuple[float, float]
    gain: tuple[float, float]
    effective: float
    visitors: int
    judged: int
    matched: int
    clipped: float
    covered: float

    @property
    def obstacle(self) -> str:
        """Why nothing can be concluded from it; empty if something can."""
        if self.effective < LEAST_EFFECTIVE:
            return (
                "what was judged of what this run would show, too, says as much as "
                f"{self.effective:.0f} visitors, expected at least {LEAST_EFFECTIVE}; "
                "wait for more, or let pages explore more"
            )
        if self.covered < LEAST_COVERED:
            return (
                f"{self.covered:.0%} of what this run would show could be shown at all, "
                f"expected at least {LEAST_COVERED:.0%}; let pages explore more"
            )
        return ""

    @property
    def text(self) -> str:
        """For people."""
        (low, high), (least, most) = self.interval, self.gain
        verdict = "more is liked" if least > 0 else "less is liked"
        if least <= 0 <= most:
            verdict = "no difference is shown"
        lines = [
            "an estimate from what was shown and judged, not a test of it:",
            f"share liked of what was shown: {self.logged:.3f} ({self.judged:,} outfits "
            f"judged, {self.visitors:,} visitors)",
            f"share liked of what this run would show: {self.estimate:.3f} (95 % "
            f"{low:.3f} to {high:.3f}; {self.matched:,} of these outfits, as much as "
            f"{self.effective:.0f} visitors, {self.clipped:.1%} of them clipped)",
            f"difference: {least:+.3f} to {most:+.3f}: {verdict}",
        ]
        if self.obstacle:
            lines[2:] = [f"nothing can be concluded: {self.obstacle}"]
        return "\n".join(lines)


def off_policy(
    visitors: Num[np.ndarray, " n"],
    liked: Float[np.ndarray, " n"],
    propensities: Float[np.ndarray, " n"],
    chosen: Bool[np.ndarray, " n"],
    places: int,
) -> OffPolicy:
    """The share liked of what another recommender chooses: self-normalised IPS.

    Each outfit that was shown and that the other one chooses counts for one over the
    probability with which it was shown, at most `MOST_WEIGHT`: those that were unlikely to
    be shown stand for all the times when they were not. What is liked is taken not to
    depend on the rest of the page, nor whether something is judged on who chose it.

    Args:
      visitors: of each outfit shown, a number.
      liked: 1 or 0, NaN where it was not judged.
      propensities: with which it was shown, above 0.
      chosen: whether the other one chooses it in its place.
      places: how many outfits the other one chooses on all these pages.
    Returns:
      NaN for what there is nothing to compute from.
    Source: Swaminathan and Joachims 2015, "The Self-Normalized Estimator for
      Counterfactual Learning"; Ionides 2008 for clipping; Kish 1965 for the effective
      sample size, here of visitors, who are what is resampled for the intervals.

    >>> rng = np.random.default_rng(0)
    >>> n = 20_000
    >>> likes, shown = np.array([0.2, 0.8]), np.array([0.9, 0.1])
    >>> outfit = (rng.random(n) < 0.1).astype(int)
    >>> liked = (rng.random(n) < likes[outfit]).astype(float)
    >>> either = np.ones(n, bool)
    >>> found = off_policy(np.arange(n), liked, shown[outfit], either, 2 * n)
    >>> round(found.logged, 1), round(found.estimate, 1)  # Both outfits alike: 0.5
    (0.3, 0.5)
    """
    weights = np.where(chosen, 1 / propensities, 0.0)
    clipped = np.minimum(weights, MOST_WEIGHT)
    judged = ~np.isnan(liked)
    likes, own = np.where(judged, liked, 0.0), np.where(judged, clipped, 0.0)
    names, numbers = np.unique(visitors, return_inverse=True)
    sums = np.zeros((len(names), 4))
    columns = (own * likes, own, likes, judged)
    np.add.at(sums, numbers, np.stack(columns, axis=1).astype(np.float64))
    rng = np.random.default_rng(0)
    drawn = [
        rng.multinomial(len(names), np.full(len(names), 1 / len(names)), _CHUNK) @ sums
        for _ in range(_RESAMPLES // _CHUNK if len(names) else 0)
    ]
    with np.errstate(invalid="ignore", divide="ignore"):
        total = sums.sum(axis=0)
        again = np.concatenate([np.full((1, 4), np.nan), *drawn])
        estimates, logged = again[:, 0] / again[:, 1], again[:, 2] / again[:, 3]
        matched = int((own > 0).sum())
        return OffPolicy(
            logged=float(total[2] / total[3]),
            estimate=float(total[0] / total[1]),
            interval=_interval(estimates),
            gain=_interval(estimates - logged),
            effective=float(np.nan_to_num(total[1] ** 2 / (sums[:, 1] ** 2).sum())),
            visitors=len(names),
            judged=int(total[3]),
            matched=matched,
            clipped=float((weights > clipped)[judged].sum() / max(matched, 1)),
            covered=float(clipped.sum() / max(places, 1)),
        )


def _interval(values: Float[np.ndarray, " r"]) -> tuple[float, float]:
    known = values[np.isfinite(values)]
    if not len(known):
        return float("nan"), float("nan")
    low, high = np.quantile(known, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
    return float(low), float(high)
