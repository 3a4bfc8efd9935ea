"""Fitting local re-ranking in a finished project: to its calibration queries, in the photos that were trained on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from flukeprint.bundle.model import Model
from flukeprint.bundle.opening import open_project
from flukeprint.core.errors import FlukeprintError
from flukeprint.core.files import read_frame
from flukeprint.core.paths import PREDICTIONS, SELECTED, VALIDATED
from flukeprint.data.embedding_files import read_embeddings
from flukeprint.data.labels import NEW_WHALE
from flukeprint.data.selected_tables import CALIBRATION, is_trained, read_selected
from flukeprint.identify.matching import why_uncalibrated
from flukeprint.identify.reranking import KeypointSearch, Networks, open_matcher
from flukeprint.metrics.arrays import new_share_weights
from flukeprint.retrieval.gallery import Photo
from flukeprint.retrieval.vectors import single
from flukeprint.scoring.calibrated_answers import Answers, calibrated
from flukeprint.scoring.calibration import Calibration
from flukeprint.scoring.candidates import read_candidates
from flukeprint.scoring.fusion import fused_of
from flukeprint.scoring.kept_local_calibration import KEPT_LOCAL, is_kept, keep_local
from flukeprint.scoring.labelled_photos import ComparedQueries
from flukeprint.scoring.local_calibration import LocalCalibration, LookedAt, fit_fusion
from flukeprint.scoring.registry import GALLERY


def fit_local(side: int, first: int, photos: int, networks: Networks = None) -> LocalCalibration:
    """Fit re-ranking to the calibration queries of the project in the current folder.

    Looked at are the `first` candidates of each, in the `photos` most similar photos of each candidate, in pictures
    whose longer side has `side` px. A fit that is kept beside a kept decision is taken over instead.
    """
    matcher, record = open_matcher(networks)
    ways: dict[str, Any] = {"matcher": record, "side": side, "first": first, "photos": photos}
    model = open_project()
    decision = _decision_of(model)
    if is_kept(decision):
        return keep_local(decision, ways)
    asked = AskedQueries.read(model, CALIBRATION)
    search = KeypointSearch(matcher, model.own_album.picture, side, photos)
    fitted = fit_fusion(asked.looked_at(search, first), asked.truth, asked.weights)
    return LocalCalibration(version=LocalCalibration.VERSION, provenance=model.provenance, **ways, **fitted._asdict())


def _decision_of(model: Model) -> Calibration:
    """Return what gives probabilities to a model's photo search, or refuse and say why nothing does."""
    calibration = model.calibration
    if calibration is None or (reason := why_uncalibrated(calibration, model.provenance)):
        raise FlukeprintError(f"there are no probabilities to fit to ({reason}). Run `dvc repro`.")
    return calibration


@dataclass(frozen=True, eq=False)
class AskedQueries:
    """The queries of one split, and what the photo search answers: every candidate, and new_whale, by probability."""

    photos: list[Photo]  # n, by their labels
    truth: list[str]  # n; new_whale for individuals that training never saw
    answers: Answers
    compared: ComparedQueries  # the n queries beside the N photos of individuals that were trained on
    gallery: list[Photo]  # these N
    share: float  # declared, of new whales

    @classmethod
    def read(cls, model: Model, split: str) -> AskedQueries:
        """Read the queries of a split from the project's files.

        Raises:
            FlukeprintError: the project has no such queries, or the photo search has no calibration.
        """
        calibration = _decision_of(model)
        rows = read_candidates(PREDICTIONS / "query.parquet")
        table = read_selected(SELECTED / "full.parquet")
        asked = table[table["split"] == split]
        rows = rows[(rows["scorer"] == GALLERY) & (rows["split"] == split)]
        if len(rows):
            rows = rows.set_index("Image").loc[asked["Image"]].reset_index()
        fused = fused_of(rows, GALLERY, calibration)
        if fused is None or not len(rows):
            keep = f", or copy the local.json of the run that its decision is of to {KEPT_LOCAL}"
            raise FlukeprintError(
                f"there is no photo of the split {split}. Set some aside (select.holdout)"
                f"{keep if calibration.fitted_to else ''}."
            )
        named = table[is_trained(table) & (table["Id"] != NEW_WHALE)].sort_values(["Id", "Image"])
        parts = [read_embeddings(member.name, "train") for member in model.provenance.members]
        return cls(
            _photos(asked),
            rows["truth"].tolist(),
            calibrated(fused, calibration.of(GALLERY), 1 + fused.label.shape[1]),
            ComparedQueries.of(table, parts, model.provenance.views, split),
            _photos(named),
            calibration.share,
        )

    @property
    def weights(self) -> NDArray[np.float64]:
        """Weights of the queries under which new whales have their declared share."""
        return new_share_weights(np.array([label == NEW_WHALE for label in self.truth]), self.share)

    def looked_at(self, search: KeypointSearch, first: int) -> list[LookedAt]:
        """Match the keypoints of each query with those of its `first` candidates."""
        from tqdm import tqdm

        rows = tqdm(range(len(self.photos)), desc="queries", unit="query", disable=None)
        return [self._looked_at(search, first, row) for row in rows]

    def _looked_at(self, search: KeypointSearch, first: int, row: int) -> LookedAt:
        own = search.of_photo(self.photos[row])
        both = zip(self.answers.labels[row], self.answers.probabilities[row], strict=True)
        labels, probabilities, matched = [], [], []
        for label, probability in [one for one in both if one[0] != NEW_WHALE][:first]:
            rows = self._rows_of(label)
            similarity = self.compared.vectors[row] @ single(self.compared.photos.individuals.vectors[rows]).T
            local = own and search.best(own, self.gallery[rows], similarity)
            if local:
                labels.append(label)
                probabilities.append(probability)
                matched.append(len(local.lines))
        return LookedAt(labels, np.array(probabilities), np.array(matched, np.int64))

    def _rows_of(self, label: str) -> slice:
        """Return where the photos of an individual are in the gallery."""
        photos = self.compared.photos
        place = int(np.searchsorted(photos.names, label))
        return slice(*photos.individuals.starts[place : place + 2].tolist())


def _photos(table: pd.DataFrame) -> list[Photo]:
    """Return the photos of a selected table with their checksums, in its order."""
    known = read_frame(VALIDATED / "train.parquet", ["Image", "sha256"]).set_index("Image")["sha256"]
    return [Photo(*row) for row in zip(table["Id"], table["Image"], known[table["Image"]], strict=True)]
