"""Tables of boxes: what is read of marked ones, what is refused, and that found ones come back as they were."""

import numpy as np
import pytest

from flukeprint.core.errors import FlukeprintError
from flukeprint.core.files import write_parquet
from flukeprint.data.cropping import Found
from flukeprint.data.fluke_boxes import found_table, read_found, read_marked

PHOTOS = {"a.jpg", "b.jpg", "c.jpg"}


def write(path, *rows):
    path.write_text("\n".join(["Image,x0,y0,x1,y1", *rows]) + "\n")
    return path


def test_boxes_and_photos_without_a_fluke_are_read(tmp_path):
    table = write(tmp_path / "boxes.csv", "b.jpg,0.1,0.2,0.9,1", "a.jpg,,,,")
    names, boxes = read_marked(table, PHOTOS)
    assert names == ["b.jpg", "a.jpg"]
    assert boxes[0].tolist() == [0.1, 0.2, 0.9, 1.0]
    assert np.isnan(boxes[1]).all()


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("d.jpg,0,0,1,1", r"row 3: Image is 'd.jpg', which is no training photo"),
        ("a.jpg,0,0,1,1", r"row 3: Image 'a.jpg' is there twice"),
        (",0,0,1,1", r"row 3: Image is empty"),
        ("b.jpg,0,0,1,", r"row 3: 0,0,1, are not four numbers \(or four empty cells: no fluke\)"),
        ("b.jpg,0,0,one,1", r"row 3: 0,0,one,1 are not four numbers"),
        ("b.jpg,0,0,1,1.01", r"row 3: \[0.0, 0.0, 1.0, 1.01\] are not shares of the photo"),
        ("b.jpg,0,0,nan,1", r"row 3: .* are not shares of the photo"),
        ("b.jpg,0.9,0,0.1,1", r"row 3: \[0.9, 0.0, 0.1, 1.0\] is no box: expected left, top, right, bottom"),
        ("b.jpg,0.5,0,0.505,1", r"row 3: .* is no box: .* at least 0.01 apart"),
        ("b.jpg,0,0,1", r"row 3: 4 cells"),
    ],
)
def test_a_bad_row_is_named(tmp_path, row, says):
    table = write(tmp_path / "boxes.csv", "a.jpg,0,0,1,1", row)
    with pytest.raises(FlukeprintError, match=says):
        read_marked(table, PHOTOS)


def test_another_header_and_a_missing_table_are_named(tmp_path):
    (tmp_path / "boxes.csv").write_text("Image,left,top,right,bottom\n")
    with pytest.raises(FlukeprintError, match="expected 'Image,x0,y0,x1,y1'"):
        read_marked(tmp_path / "boxes.csv", PHOTOS)
    with pytest.raises(FlukeprintError, match=r"none.csv is missing.*Image,x0,y0,x1,y1"):
        read_marked(tmp_path / "none.csv", PHOTOS)


def test_found_boxes_come_back_rounded(tmp_path):
    write_parquet(tmp_path / "boxes.parquet", found_table(["a.jpg"], np.array([[0.123456, 0, 1, 1, 0.99996, 0.5]])))
    assert read_found(tmp_path / "boxes.parquet") == {"a.jpg": Found(0.1235, 0.0, 1.0, 1.0, 1.0, 0.5)}
    write_parquet(tmp_path / "none.parquet", found_table([], np.zeros((0, 6))))
    assert read_found(tmp_path / "none.parquet") == {}
