"""Open-set calibration and score fusion of scorers, fitted to calibration queries.

Galleries that people search are not the one that was calibrated with: a season's catalogue has tens of individuals, or
more than there were. So the calibration of the scorer that galleries are searched with is fitted to galleries of many
sizes in one, drawn from the whole (small_galleries.py). With n individuals of N the three parameters of the logit are

    logit(candidate) = a(n) x z, a >= 0; z: Fisher's of the score, a mean of cosines
    logit(another known individual) = b(n) + log(individuals that are no candidate)
    logit(new whale) = c(n)

where a, b and c lie on lines over log n, from n = 1 to N. The logit is linear in the six numbers at both ends, so the
log-loss is as convex as that of conditional_logit.py. Were scores of individuals independent and the logit right,
Bayes' rule would give the same a and b for all n, and c + log n. It is right to the first order only: the more
individuals, the further out in the tail the best of the wrong ones, so slopes rise with n. docs/evaluation.md has the
figures that chose this form.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from math import log
from typing import NamedTuple

import numpy as np
import pandas as pd

from flukeprint.core.errors import FlukeprintError
from flukeprint.data.labels import NEW_WHALE
from flukeprint.scoring.calibrated_answers import fisher_z
from flukeprint.scoring.calibration import GallerySizes, OpenSetCalibration, ScoreFusion
from flukeprint.scoring.candidates import Scored, scored_of
from flukeprint.scoring.conditional_logit import Fit, LogLoss
from flukeprint.scoring.fusion import fuse
from flukeprint.scoring.registry import GALLERY, scorer_of
from flukeprint.scoring.small_galleries import FullGallery, GalleryQueries

# Individuals of the galleries that are fitted to: half powers of ten, as long as the whole has more, and the whole.
SIZES = tuple(round(10 ** (half / 2)) for half in range(13))


class FittedScorers(NamedTuple):
    """What models/decision.json says of scorers, and why others are without."""

    scorers: dict[str, OpenSetCalibration]
    fusions: dict[str, ScoreFusion]
    without: dict[str, str]


def fit_scorers(
    rows: pd.DataFrame, share: float, scorers: Iterable[str], full: FullGallery | None = None
) -> FittedScorers:
    """Fit every scorer that has queries to fit: its calibration rows of query.parquet.

    With the full gallery, of the same queries, the calibration of the scorer `gallery` holds for other ones as well;
    those of the others that search photos tell of how many individuals it was.
    """
    found = FittedScorers({}, {}, {})
    for scorer in scorers:
        own = rows[rows["scorer"] == scorer]
        scored, truth = scored_of(own, scorer), own["truth"].tolist()
        if reason := nothing_to_fit(scored, truth):
            found.without[scorer] = reason
            continue
        fusion, found.scorers[scorer] = fit_scorer(scored, truth, scorer, share)
        if fusion:
            found.fusions[scorer] = fusion
        if full and scorer_of(scorer).searches:
            found.scorers[scorer] = found.scorers[scorer].model_copy(update={"individuals": len(full)})
        if scorer == GALLERY and fusion and full and len(full) > 1:
            asked = [*full.asked(SIZES), GalleryQueries(len(full), scored, truth)]
            fused = [one._replace(scored=fuse(one.scored, scorer, fusion)) for one in asked]
            found.scorers[scorer] = fit_sizes(fused, share, found.scorers[scorer], int(full.photos.max()))
    return found


def nothing_to_fit(scored: Scored, truth: Sequence[str]) -> str | None:
    """Say why calibration queries of one scorer do not determine a calibration, or return None."""
    if not truth:
        return "there are no calibration queries; select.holdout sets them aside"
    new = sum(label == NEW_WHALE for label in truth)
    if new in (0, len(truth)):
        return f"all {len(truth)} calibration queries show {'new' if new else 'known'} whales"
    return None if scored.filled.any() else "no calibration query has a candidate"


def fit_scorer(
    scored: Scored, truth: Sequence[str], scorer: str, share: float
) -> tuple[ScoreFusion | None, OpenSetCalibration]:
    """Fit a scorer's calibration, and in one with it the weights of its features, if it has any.

    The right outcome of a query is its candidate, `another` if the individual is not among the candidates, or new;
    queries are weighted so that new whales are `share` of them.

    Raises:
        FlukeprintError: `nothing_to_fit` has a reason, or only some queries have a score for new_whale.
    """
    if reason := nothing_to_fit(scored, truth):
        raise FlukeprintError(f"a calibration cannot be fitted: {reason}.")
    problem = LogLoss.of(scored, truth, share)
    fit = problem.fit()
    absent = [bool(np.isnan(column).all()) for column in scored.new_features.T]
    fusion, weight = None, None if absent[0] else _rounded(fit.new_weights[0])
    if scorer_of(scorer).features:
        fusion = _fusion(fit, scorer, absent)
        weight = 1.0 if any(fusion.new_features.values()) else None
        problem = LogLoss.of(fuse(scored, scorer, fusion), truth, share)
    a, b, c = _rounded(fit.slopes.sum()), _rounded(fit.other), _rounded(fit.new)
    new = sum(label == NEW_WHALE for label in truth)
    return fusion, OpenSetCalibration(
        inverse_temperature=a,
        other=b,
        new=c,
        new_score_weight=weight,
        known_queries=len(truth) - new,
        new_queries=new,
        log_loss=_rounded(problem.log_loss(np.array([a, b, c, weight or 0.0]))),
    )


def fit_sizes(
    asked: Sequence[GalleryQueries], share: float, whole: OpenSetCalibration, photos: int
) -> OpenSetCalibration:
    """Fit one calibration to queries that searched galleries of several sizes; every size weighs the same.

    Scores are fused, in as many columns everywhere; the largest gallery is the whole, `whole` what was fitted to it,
    `photos` the most of one individual there.
    """
    sizes = [one.individuals for one in asked]
    values = fisher_z(np.concatenate([one.scored.scores[one.scored.filled] for one in asked]))
    mean, deviation = float(values.mean()), float(values.std()) or 1.0
    parts = [_in_gallery(one, share, log(one.individuals) / log(max(sizes)), mean, deviation) for one in asked]
    problem = LogLoss.joined(parts, [1 / (len(set(sizes)) * sizes.count(size)) for size in sizes])
    fit = problem.fit()
    start, end = (
        {
            "inverse_temperature": _rounded(slope / deviation),
            # Scores were standardised: a shift of all candidates' logits is the opposite shift of the other two.
            "other": _rounded(fit.other + part * fit.other_weights[0] + slope / deviation * mean),
            "new": _rounded(fit.new + part * fit.new_weights[0] + slope / deviation * mean),
        }
        for part, slope in enumerate(fit.slopes)
    )
    found = GallerySizes(individuals=max(sizes), photos=photos, **start)
    return whole.model_copy(update={**end, "log_loss": _rounded(problem.log_loss(fit.vector)), "sizes": found})


def _in_gallery(one: GalleryQueries, share: float, part: float, mean: float, deviation: float) -> LogLoss:
    """Return the loss of queries in one gallery over the parameters at both ends, `part` of the way between them."""
    problem = LogLoss.of(one.scored, one.truth, share)
    score = np.where(problem.filled[:, :, None], (fisher_z(problem.features) - mean) / deviation, 0.0)
    place = np.full((len(score), 1), part)
    return replace(
        problem,
        features=np.concatenate([(1 - part) * score, part * score], axis=2),
        new_features=place,
        other_features=place,
        offset=one.scored.log_unlisted(one.individuals),
    )


def _fusion(fit: Fit, scorer: str, absent: Sequence[bool]) -> ScoreFusion:
    """Return the weights of the features. If none helps to tell the right candidate, all weigh the same."""
    total = fit.slopes.sum()
    shares = fit.slopes / total if total > 0 else np.full(len(fit.slopes), 1 / len(fit.slopes))
    of_photo = zip(scorer_of(scorer).photo_features, fit.new_weights, absent, strict=True)
    return ScoreFusion(
        features={name: _rounded(value) for name, value in zip(scorer_of(scorer).features, shares, strict=True)},
        new_features={name: _rounded(value) for name, value, is_absent in of_photo if not is_absent},
    )


def _rounded(value: float) -> float:
    """Keep six digits: more would depend on the order of the machine's sums."""
    return float(f"{value:.6g}")
