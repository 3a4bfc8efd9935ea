"""A training's folder is named after all that its result depends on, which is read a part at a time."""

import numpy as np
import pytest

from flukeprint.learning import checkpoints
from flukeprint.learning.checkpoints import checkpoint_folder
from flukeprint.learning.rows import Selection

ARRAY = np.random.default_rng(0).integers(0, 256, (90, 3, 4, 5), dtype=np.uint8)
ROWS = np.random.default_rng(1).permutation(90)[:70]


def folder(*ingredients) -> str:
    return checkpoint_folder("finetune", "m1", 3, {"lr": 0.1}, *ingredients).as_posix()


@pytest.mark.parametrize("size", [1, 8, 70, 256])
def test_a_selection_counts_as_the_rows_that_it_selects_however_many_are_read_at_a_time(monkeypatch, size):
    expected = folder(ARRAY[ROWS])
    monkeypatch.setattr(checkpoints, "_ROWS", size)
    assert folder(Selection(ARRAY, ROWS)) == expected == folder(ARRAY[ROWS])


def test_every_row_type_and_shape_counts():
    selection = Selection(ARRAY, ROWS)
    other = ARRAY.copy()
    other[ROWS[-1], 2, 3, 4] ^= 1
    unlike = [selection, Selection(other, ROWS), Selection(ARRAY, ROWS[:-1]), Selection(ARRAY, ROWS[::-1])]
    unlike += [ARRAY[ROWS].view(np.int8), ARRAY[ROWS].reshape(70, 3, 5, 4), ARRAY[:0], ARRAY[:0].reshape(0, 3, 5, 4)]
    assert len({folder(one) for one in unlike}) == len(unlike)
    # What is not selected does not count.
    other = ARRAY.copy()
    other[np.setdiff1d(np.arange(90), ROWS)] = 0
    assert folder(Selection(other, ROWS)) == folder(selection)


def test_no_more_than_some_rows_are_read_at_a_time():
    class Watched:
        most = 0

        def __getitem__(self, rows):
            Watched.most = max(Watched.most, len(rows))
            return ARRAY[rows % 90]

    folder(Selection(Watched(), np.arange(1000)))
    assert 0 < Watched.most <= checkpoints._ROWS
