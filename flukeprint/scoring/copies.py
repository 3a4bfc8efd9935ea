"""Labels of near-duplicates: a rule with a measured probability, because nothing can be fitted to it.

About one in seven of the competition's test photos is nearly the same picture as a labelled one, but no query and no
calibration query is: near-duplicates stay on one side of every split. So the probability that such a picture shows the
whale that the other one is labelled with is measured among the labelled photos themselves.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from flukeprint.data.labels import NEW_WHALE
from flukeprint.retrieval.search import DEPTH
from flukeprint.scoring.calibrated_answers import Answers, calibrated
from flukeprint.scoring.calibration import CopyAgreement, OpenSetCalibration
from flukeprint.scoring.candidates import Scored, from_lists

if TYPE_CHECKING:
    import pandas as pd


def agreement(gallery: pd.DataFrame) -> CopyAgreement:
    """Measure how often a photo's label is among the labels of its near-duplicates in some labelled photos.

    Every photo that has any counts once, however many it has, so that large clusters do not decide alone. The
    probability is by Laplace's rule of succession: one half where there are no near-duplicates.
    """
    photos = int(gallery.duplicated("cluster", keep=False).sum())
    agreeing = int(gallery.duplicated(["cluster", "Id"], keep=False).sum())
    return CopyAgreement(photos=photos, agreeing=agreeing, probability=round((agreeing + 1) / (photos + 2), 6))


def scored_copies(labels: Iterable[Counter[str]]) -> Scored:
    """Score each photo's labels, of which only those of its near-duplicates are known, as the scorer `duplicates`.

    A score is the label's share of the near-duplicates. new_whale's is 0 where none has that label: it stands behind
    real duplicates, and first where there are none.
    """
    shares = [_shares(counts) for counts in labels]
    new = np.array([[of_new] for *_, of_new in shares], np.float32).reshape(-1, 1)
    return from_lists([names for names, *_ in shares], [scores for _, scores, _ in shares], new, 1)


def _shares(counts: Counter[str]) -> tuple[list[str], list[float], float]:
    """Return the labels of one photo's near-duplicates, their shares, and that of new_whale."""
    total = max(counts.total(), 1)
    best = sorted((-count / total, label) for label, count in counts.items() if label != NEW_WHALE)[:DEPTH]
    return [label for _, label in best], [-share for share, _ in best], counts[NEW_WHALE] / total


def decided(
    scored: Scored,
    fitted: OpenSetCalibration,
    duplicates: Scored,
    agreement: CopyAgreement,
    top: int,
    individuals: int | None = None,
) -> Answers:
    """Answer with the calibrated candidates and the labels of near-duplicates: for submissions and for new photos.

    `duplicates` are of the same photos, by `scored_copies`; scored, fitted and individuals as for `calibrated`.
    """
    answers = calibrated(scored, fitted, 1 + scored.label.shape[1], individuals)
    return copied(answers, duplicates, agreement.probability, top)


def copied(answers: Answers, duplicates: Scored, probability: float, top: int) -> Answers:
    """Put the labels of near-duplicates where they belong: P(label) = p share(label) + (1 - p) P_model(label).

    share is the label's among the labelled photos of the cluster, as the scorer `duplicates` says. A photo without any
    keeps its answer. Answers need all of a scorer's candidates. The `top` labels are kept, most probable first, equal
    ones in the scorer's order.
    """
    result = Answers([], [], answers.new_probability.copy())
    columns = (duplicates.labels(), duplicates.scores.tolist(), duplicates.new_score.tolist())
    for row, (labels, shares, of_new) in enumerate(zip(*columns, strict=True)):
        copies = dict(zip(labels, shares, strict=False)) | {NEW_WHALE: of_new}
        model = dict(zip(answers.labels[row], answers.probabilities[row], strict=True))
        if sum(copies.values()) > 0:
            copies = {label: share for label, share in copies.items() if share > 0}
            model = _mixed(model, copies, probability)
            own = probability * copies.get(NEW_WHALE, 0.0)
            result.new_probability[row] = own + (1 - probability) * result.new_probability[row]
        result.labels.append(list(model)[:top])
        result.probabilities.append(list(model.values())[:top])
    return result


def _mixed(model: dict[str, float], copies: dict[str, float], probability: float) -> dict[str, float]:
    together = {
        label: probability * copies.get(label, 0.0) + (1 - probability) * model.get(label, 0.0)
        for label in model | copies
    }
    return dict(sorted(together.items(), key=lambda item: -item[1]))
