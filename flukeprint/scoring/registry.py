"""Every scorer in one place: its name, its words, its features, how charts draw it, and whether it may be chosen.

A scorer gives photos candidates among the individuals that were trained on; the derived ones answer with another
scorer's candidates. To add one, add an entry here and what computes it in flukeprint/scoring/scorers.py. A name holds
no digit: members' names do (`ensemble.members`), so that no member can be taken for a scorer.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

CURVES = ("new_share", "cmc", "precision_recall", "reliability")


@dataclass(frozen=True)
class Scorer:
    """One scorer, or a row of the leaderboard that is derived from one."""

    name: str
    title: str  # a name in plain words
    says: str  # what it does, in a few words, for readers of the report
    style: int = 8  # number of its line style in charts; this one is of those without a line of their own
    uncalibrated: str = ""  # what it does where there was nothing to calibrate with, if that is something else
    curves: tuple[str, ...] = ()  # charts in which it has a line of its own
    features: tuple[str, ...] = ()  # of a candidate, which score fusion weighs; none: it has one score per candidate
    photo_features: tuple[str, ...] = ()  # of the photo, which score fusion weighs into new_whale's score
    searches: bool = False  # whether its candidates are found among photos, not among classes: a gallery may grow
    choosable: bool = False  # whether it answers test photos and may be chosen for a submission
    derived: bool = False  # a row of the leaderboard only: it has no candidates of its own

    @property
    def breakdown(self) -> bool:
        """Whether the report breaks its figures down by groups of queries: that of scorers with all charts."""
        return self.curves == CURVES


ALL_NEW = "all_new"
MOST_FREQUENT = "most_frequent"
DUPLICATES = "duplicates"
PRETRAINED_KNN = "pretrained_knn"
ENSEMBLE = "ensemble"
ENSEMBLE_CLASS = "ensemble_class"
GALLERY_NEAREST = "gallery_nearest"
GALLERY_CENTRE = "gallery_centre"
GALLERY = "gallery"
BLEND = "blend"
BEST = "best"

# Lowest first: the order of the leaderboard. Members stand before the ensemble.
SCORERS: tuple[Scorer, ...] = (
    Scorer(
        name=ALL_NEW,
        title="always new_whale",
        says="answers “new whale” for every photo",
        style=0,
        curves=("new_share",),
        derived=True,
    ),
    Scorer(
        name=MOST_FREQUENT,
        title="the commonest whales",
        says="names the individuals with the most photos, whatever the photo shows",
        style=1,
        curves=("cmc", "new_share"),
    ),
    Scorer(
        name=DUPLICATES,
        title="copied labels",
        says="copies the label where another photo is nearly the same picture, else “new whale”",
        style=2,
        curves=CURVES,
    ),
    Scorer(
        name=PRETRAINED_KNN,
        title="the untrained network",
        says="finds similar photos with the network as it was before it saw any of these whales",
        style=3,
        curves=CURVES,
    ),
    Scorer(
        name=ENSEMBLE,
        title="the ensemble",
        says="all members together, with the calibrated decision for new whales",
        uncalibrated="all members together, with “new whale” as one more class",
        style=4,
        curves=CURVES,
        choosable=True,
    ),
    Scorer(
        name=ENSEMBLE_CLASS,
        title="with new_whale as a class",
        says="the same, with “new whale” as one more class, as in the reference procedure",
        style=5,
        curves=("precision_recall", "reliability", "new_share"),
        derived=True,
    ),
    Scorer(
        name=GALLERY_NEAREST,
        title="the most similar photo",
        says="finds the individual with the most similar photo, by the trained networks",
        searches=True,
        choosable=True,
    ),
    Scorer(
        name=GALLERY_CENTRE,
        title="the most similar whale",
        says="finds the individual whose photos are most similar on average, by the trained networks",
        searches=True,
        choosable=True,
    ),
    Scorer(
        name=GALLERY,
        title="the photo search",
        says="both of these together, weighted; individuals can be added without training",
        style=6,
        curves=CURVES,
        features=("nearest", "centre"),
        photo_features=("none",),
        searches=True,
        choosable=True,
    ),
    Scorer(
        name=BLEND,
        title="the photo search with the ensemble",
        says="the photo search and the ensemble's classes together, weighted",
        style=7,
        curves=CURVES,
        features=("nearest", "centre", "head"),
        photo_features=("head", "nearest_new_whale"),
        searches=True,
        choosable=True,
    ),
    Scorer(
        name=BEST,
        title="the best answer",
        says="what calibration queries like best; labels of nearly the same pictures come first",
        derived=True,
    ),
)

_BY_NAME = {scorer.name: scorer for scorer in SCORERS}
CHOOSABLE = tuple(scorer.name for scorer in SCORERS if scorer.choosable)


def scorer_of(name: str) -> Scorer:
    """Return a scorer by name; any other name is a member's."""
    return _BY_NAME.get(name) or Scorer(name, f"network {name}", "one network of the ensemble")


def in_order(names: Iterable[str]) -> list[str]:
    """Sort names of results as they stand on the leaderboard; members by name, before the ensemble."""
    places = {scorer.name: float(place) for place, scorer in enumerate(SCORERS)}
    return sorted(names, key=lambda name: (places.get(name, places[ENSEMBLE] - 0.5), name))


def scorer_names(members: Sequence[str]) -> list[str]:
    """Return every scorer of data/predictions/query.parquet, from the one that knows least upwards."""
    own = [scorer.name for scorer in SCORERS if not scorer.derived]
    place = own.index(ENSEMBLE)
    return [*own[:place], *members, *own[place:]]
