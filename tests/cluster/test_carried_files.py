from pathlib import Path

import numpy as np
import pytest

from flukeprint.cluster import carried_files
from flukeprint.cluster.carried_files import CarriedFile, Piece, laid_out, pieces_of, receiving
from flukeprint.core.errors import FlukeprintError


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    monkeypatch.setattr(carried_files, "_PIECE", 4)


def opened(folder: Path):
    received = receiving(folder)
    next(received)
    return received


@pytest.mark.parametrize("content", [b"", b"a", b"abcd", b"abcdefghi"])
def test_a_file_comes_as_it_went(tmp_path, content):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/x").write_bytes(content)
    pieces = list(pieces_of(tmp_path, Path("a/x")))
    assert len(pieces) == max(-(-len(content) // 4), 1)
    assert {piece.total for piece in pieces} == {len(content)}
    received = opened(tmp_path / "b")
    for piece in [*pieces, *pieces]:
        received.send(piece)
    assert (tmp_path / "b/a/x").read_bytes() == content


def test_a_file_that_came_in_part_is_not_there(tmp_path):
    (tmp_path / "x").write_bytes(b"abcdefgh")
    first, second = pieces_of(tmp_path, Path("x"))
    (tmp_path / "b").mkdir()
    (tmp_path / "b/x").write_bytes(b"before")
    received = opened(tmp_path / "b")
    received.send(first)
    received.close()
    assert [path.name for path in (tmp_path / "b").iterdir()] == ["x"]
    assert (tmp_path / "b/x").read_bytes() == b"before"
    with pytest.raises(FlukeprintError, match="x incompletely"):
        opened(tmp_path / "b").send(second)
    received = opened(tmp_path / "b")
    received.send(first)
    with pytest.raises(FlukeprintError, match="x incompletely"):
        received.send(Piece("y", 4, 8, second.data))
    assert (tmp_path / "b/x").read_bytes() == b"before"


@pytest.mark.parametrize("path", ["../x", "/x", "a/../../x"])
def test_no_file_is_written_outside(tmp_path, path):
    (tmp_path / "b").mkdir()
    received = opened(tmp_path / "b")
    with pytest.raises(FlukeprintError, match="no file of the project"):
        received.send(Piece(path, 0, 1, np.zeros(1, np.uint8)))
    assert [path.name for path in tmp_path.rglob("*")] == ["b"]


def test_files_that_are_seen_are_linked(tmp_path):
    (tmp_path / "project/data").mkdir(parents=True)
    (tmp_path / "project/data/x").write_bytes(b"abc")
    laid_out([CarriedFile("data/x", ())], tmp_path / "task", tmp_path / "project")
    assert (tmp_path / "task/data/x").is_symlink()
    assert (tmp_path / "task/data/x").read_bytes() == b"abc"
