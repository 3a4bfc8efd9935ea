"""The bench of near-duplicates: its figures against a recount by hand, and a run on a tiny folder."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from quality_folder import HEADER, Folder, texture

from bench.alterations import ALTERATIONS, figures, measured, one_photo_per_label
from flukeprint.data.near_duplicates import MAX_BITS, MAX_MSE, Pairs

EACH = 1 + len(ALTERATIONS)
RULE = {"max_bits": MAX_BITS, "max_mse": MAX_MSE, "same_size": False}


@given(st.integers(1, 4), st.data())
def test_figures_are_those_of_a_recount(originals, data):
    count = originals * EACH
    drawn = data.draw(st.sets(st.tuples(st.integers(0, count - 1), st.integers(0, count - 1)), max_size=40))
    pairs = sorted({(min(a, b), max(a, b)) for a, b in drawn if a != b})
    of, variant = [n // EACH for n in range(count)], [n % EACH for n in range(count)]
    left_out = {of[b] for a, b in pairs if variant[a] == variant[b] == 0}
    kept = [(a, b) for a, b in pairs if not {of[a], of[b]} & left_out]
    i, j = (np.array([pair[k] for pair in pairs], np.int64) for k in (0, 1))
    found = figures(Pairs(i, j, i, j.astype(float)), np.array(of), np.array(variant))
    assert found["individuals"] == originals - len(left_out)
    assert found["accepted_pairs"] == len(kept)
    assert found["false_pairs"] == sum(of[a] != of[b] for a, b in kept)
    for place, name in enumerate(ALTERATIONS, 1):
        hits = sum(variant[a] == 0 and variant[b] == place and of[a] == of[b] for a, b in kept)
        assert found["recall"][name] == round(hits / (originals - len(left_out)), 4)


def test_a_photo_per_individual_is_altered_and_found_again(tmp_path):
    folder = Folder.make(tmp_path / "raw")
    assert [path.name for path in one_photo_per_label(folder.path, 9)] == ["t00.jpg", "t04.jpg", "t08.jpg"]
    found = measured(folder.path, 2, RULE)
    assert (found["individuals"], found["false_pairs"], found["precision"]) == (2, 0, 1.0)
    assert set(found["recall"]) == set(ALTERATIONS)
    assert found["recall"]["recompressed, quality 75"] == found["recall"]["resized to 50 %"] == 1.0


def test_one_picture_under_two_ids_counts_once(tmp_path):
    folder = Folder.make(tmp_path / "raw")
    folder.save("train/t04.jpg", texture(0), quality=90)
    folder.write("train.csv", [HEADER, "t00.jpg,w_a", "t04.jpg,w_b", "t08.jpg,w_c"])
    found = measured(folder.path, 3, RULE)
    assert (found["individuals"], found["left_out"], found["false_pairs"]) == (2, 1, 0)
