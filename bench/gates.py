"""Statistics of a candidate's reviews that could gate its admission, and how well each separates.

The lower a statistic, the worse the candidate looks. `statistics` needs only what manifests publish: the
integers of reviews and own proofs of this round and of earlier ones, and who reviewed whom.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from cheats import Doubles
from rounds import Draws, Indices, Round

MEDIAN = "lower median"
HISTORY = "history of medians"
PAIRED = "paired difference"
UPPER = "upper median"
"""Below a limit only if more than half of the reviews are."""
WEIGHTED, UPPER_WEIGHTED = "lower median / weight", "upper median / weight"
LENGTH, COSINE = "step length", "cosine to others"
"""Known from the published V alone, for comparison."""
GATE, TOLERANCE = UPPER_WEIGHTED, 0.15
"""The rule of docs/adr/0011-review-gate.md."""
NAMES = (
    MEDIAN,
    WEIGHTED,
    UPPER,
    UPPER_WEIGHTED,
    "mean",
    "minimum",
    "second lowest",
    "median / own",
    PAIRED,
    "rank",
    HISTORY,
    "history of means",
    "history, paired",
    "median and history",
    LENGTH,
    COSINE,
)


def statistics(
    rounds: Sequence[Round], draws: Sequence[Draws], k: int, lie: tuple[int, float] | None = None
) -> list[dict[str, Doubles]]:
    """Return for each round every statistic [draw, candidate] of `k` reviews.

    With `lie`, (candidate, value), that candidate's first reviewer shows the value instead of the truth. It
    does not matter which of the k reviewers lies.
    """
    per_round: list[dict[str, Doubles]] = []
    for played, drawn in zip(rounds, draws, strict=True):
        reviews, own = drawn.seen(played)
        reviewers = drawn.reviewers[:, :, :k]
        if lie is not None:
            reviews[np.arange(len(reviews)), lie[0], reviewers[:, lie[0], 0]] = lie[1]
        found = _of_round(reviews, reviewers, own)
        for name, median in ((WEIGHTED, MEDIAN), (UPPER_WEIGHTED, UPPER)):
            found[name] = found[median] / played.share
        found[LENGTH] = np.broadcast_to(-played.length, own.shape)
        found[COSINE] = np.broadcast_to(played.cosine, own.shape)
        past = [*per_round, found]
        for name, source in ((HISTORY, MEDIAN), ("history of means", "mean"), ("history, paired", PAIRED)):
            found[name] = np.mean([entry[source] for entry in past], axis=0)
        # A mean over rounds varies less than one round, so it is held to half of the tolerance.
        found["median and history"] = np.minimum(found[MEDIAN], 2 * found[HISTORY])
        per_round.append(found)
    return per_round


def _of_round(reviews: Doubles, reviewers: Indices, own: Doubles) -> dict[str, Doubles]:
    ordered = np.sort(np.take_along_axis(reviews, reviewers, axis=2), axis=2)
    median = lower_median(ordered)
    return {
        MEDIAN: median,
        UPPER: ordered[..., ordered.shape[2] // 2],
        "mean": ordered.mean(axis=2),
        "minimum": ordered[..., 0],
        "second lowest": ordered[..., min(1, ordered.shape[2] - 1)],
        "median / own": median / np.maximum(own, 1e-9),
        PAIRED: _paired(reviews, reviewers),
        "rank": (median[:, None, :] < median[:, :, None]).mean(axis=2),
    }


def lower_median(values: Doubles) -> Doubles:
    """Return the lower median over the last axis; NaN is no value, and no value at all gives NaN."""
    ordered = np.sort(values, axis=-1)  # NaN last
    count = np.isfinite(ordered).sum(axis=-1)
    place = np.maximum(count - 1, 0) // 2
    median: Doubles = np.take_along_axis(ordered, place[..., None], axis=-1)[..., 0]
    return median


def _paired(reviews: Doubles, reviewers: Indices) -> Doubles:
    """Return the lower median of reviews less the median of what the same reviewer found of others.

    Reviewers and their data differ more than candidates do. A reviewer that was drawn for one candidate only
    gives no difference; a candidate without any is not judged: 0.
    """
    drawn = np.zeros(reviews.shape, dtype=bool)
    np.put_along_axis(drawn, reviewers, True, axis=2)
    known = np.where(drawn, reviews, np.nan)
    differences = np.full_like(known, np.nan)
    for candidate in range(known.shape[1]):
        others = np.delete(known, candidate, axis=1)
        differences[:, candidate] = known[:, candidate] - lower_median(others.swapaxes(1, 2))
    return np.nan_to_num(lower_median(differences), nan=0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Separation:
    """How well a statistic tells cheats from honest nodes."""

    auc: float
    """Probability that a cheat looks worse than an honest node."""
    at_1: float
    """Cheats refused where 1 % of honest ones are."""
    at_5: float
    """Cheats refused where 5 % of honest ones are."""
    cheats: int
    """Cheating updates that were compared; none gives NaN."""


def separation(honest: Doubles, cheats: Doubles) -> Separation:
    """Return how well values of cheats lie below those of honest nodes."""
    if not len(cheats) or not len(honest):
        return Separation(auc=np.nan, at_1=np.nan, at_5=np.nan, cheats=len(cheats))
    ordered = np.sort(honest)
    above = len(ordered) - np.searchsorted(ordered, cheats, side="right")
    equal = np.searchsorted(ordered, cheats, side="right") - np.searchsorted(ordered, cheats, side="left")
    return Separation(
        auc=float((above + equal / 2).mean() / len(ordered)),
        at_1=_refused(ordered, cheats, 0.01),
        at_5=_refused(ordered, cheats, 0.05),
        cheats=len(cheats),
    )


def _refused(ordered: Doubles, cheats: Doubles, rate: float) -> float:
    """Return the share of cheats under the highest threshold that refuses at most `rate` of the honest."""
    return float((cheats < ordered[int(rate * len(ordered))]).mean())
