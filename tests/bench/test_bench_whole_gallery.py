"""The bench of the whole gallery: what it sets aside again, and that the right whale must be there to be found."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from calibrations import calibration_of, open_set

from bench.whole_gallery import Asked, set_aside_again
from flukeprint.core.params import check_params
from flukeprint.data.labels import NEW_WHALE
from flukeprint.scoring.calibration import ScoreFusion
from flukeprint.scoring.registry import GALLERY

ROOT = Path(__file__).parents[2]
PARAMS = check_params(yaml.safe_load((ROOT / "params.yaml").read_text()))


@pytest.fixture
def gallery() -> pd.DataFrame:
    """Forty individuals with three photos each, and twenty photos of new_whale."""
    ids = [f"w_{n % 40:02}" for n in range(120)] + [NEW_WHALE] * 20
    rows = range(len(ids))
    return pd.DataFrame({"Image": [f"{n}.jpg" for n in rows], "Id": ids, "together": rows, "pixel": rows})


def test_photos_are_set_aside_again_by_the_rule_of_select(gallery):
    one, other = set_aside_again(gallery, gallery[:0], PARAMS, 2)
    assert set(one["Image"]) != set(other["Image"])
    left = one["Id"].value_counts().reindex(gallery["Id"].unique(), fill_value=0).drop(NEW_WHALE)
    # Twice a quarter of the individuals lose one photo, and some all of theirs.
    assert (left == 2).sum() == 20
    assert 0 < (left == 0).sum() < 10


def test_queries_score_less_where_their_whale_has_no_photo(gallery):
    whose = {name: place for place, name in enumerate(gallery["Id"].unique())}
    embeddings = np.eye(41, dtype=np.float32)[gallery["Id"].map(whose)][:, None]
    queries = gallery.iloc[[0, 1, 130]]
    fusion = ScoreFusion(features={"nearest": 0.5, "centre": 0.5}, new_features={})
    calibration = calibration_of(scorers={GALLERY: open_set(20.0, 0.0, 10.0, None)}, fusions={GALLERY: fusion})
    asked = Asked(queries, gallery.iloc[40:], [embeddings], 1, calibration)
    assert asked.points(asked.gallery).tolist() == [1, 1, 1]
    assert asked.points(asked.gallery[asked.gallery["Id"] != "w_00"]).tolist() == [0, 1, 1]
