"""Names that are not an individual's or a member's."""

# The competition's label for a whale without a known identity. Two photos with it usually show two whales.
NEW_WHALE = "new_whale"
# The scorer that answers new_whale, whatever the photo.
ALL_NEW = "all_new"
# The scorers that need no training, and the one that is all members together.
MOST_FREQUENT, DUPLICATES, PRETRAINED_KNN, ENSEMBLE = "most_frequent", "duplicates", "pretrained_knn", "ensemble"
# The ensemble with new_whale as one more class, as in the reference report, beside its calibrated decision.
ENSEMBLE_CLASS = "ensemble_class"
# The scorers that search the gallery with the members' embeddings: an individual's nearest photo, its centre, both.
GALLERY_NEAREST, GALLERY_CENTRE, GALLERY = "gallery_nearest", "gallery_centre", "gallery"
# Gallery and head together.
BLEND = "blend"
# Whichever of the scorers below the calibration queries like best, after the labels of near-duplicates.
BEST = "best"
# The scorers that also answer the test photos.
CHOOSABLE = (ENSEMBLE, GALLERY_NEAREST, GALLERY_CENTRE, GALLERY, BLEND)
# Folder of the pretrained backbone's embeddings, beside those of the members.
PRETRAINED = "pretrained"
# No member may have one of these names.
RESERVED = frozenset({ALL_NEW, MOST_FREQUENT, DUPLICATES, PRETRAINED_KNN, ENSEMBLE_CLASS, BEST, PRETRAINED, *CHOOSABLE})


def ladder(members: list[str]) -> list[str]:
    """Return every scorer of data/predictions/query.parquet, from the one that knows least upwards."""
    return [MOST_FREQUENT, DUPLICATES, PRETRAINED_KNN, *members, *CHOOSABLE]
