"""Files on their way to another machine and back, in pieces that the memory holds."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flukeprint.core.errors import FlukeprintError, MissingFileError
from flukeprint.core.files import reading
from flukeprint.core.replacement import replacing

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_PIECE = 1 << 26  # bytes


@dataclass(frozen=True)
class Piece:
    """A part of a file, which has `total` bytes; pieces of a file come one after the other."""

    path: str  # relative to the project's root, or to what stands for it
    start: int
    total: int
    data: NDArray[np.uint8]


def pieces_of(root: Path, path: Path) -> Iterator[Piece]:
    """Yield a file under `root` in pieces; an empty one is one piece. It is read as it is when it is opened."""
    import numpy as np

    with reading(root / path, "a file that can be read"), (root / path).open("rb") as stream:
        total = stream.seek(0, 2)
        for start in range(0, total or 1, _PIECE):
            stream.seek(start)
            yield Piece(str(path), start, total, np.frombuffer(stream.read(_PIECE), np.uint8))


def receiving(root: Path) -> Generator[None, Piece, None]:
    """Take pieces by `send`, and write each file under `root` whole or not at all; closed early, it leaves nothing.

    A path that leads out of `root`, or a piece that does not follow the one before, is a FlukeprintError.
    """
    piece = yield
    while True:
        path = Path(piece.path)
        if path.is_absolute() or ".." in path.parts:
            raise FlukeprintError(
                f"a worker sent {piece.path!r}, which is no file of the project. Nothing was written."
            )
        with replacing(root / path) as temporary, temporary.open("r+b") as stream:
            while True:
                if (piece.path, piece.start) != (str(path), stream.tell()):
                    raise FlukeprintError(f"a worker sent {path} incompletely. Run the command again.")
                stream.write(piece.data.data)
                if stream.tell() >= piece.total:
                    break
                piece = yield
        piece = yield


@dataclass(frozen=True)
class CarriedFile:
    """A file that a task reads, with references to its pieces; without, it is to be seen where it lies."""

    path: str
    pieces: tuple[Any, ...]


def packed(path: Path, *, carry: bool) -> Iterator[CarriedFile]:
    """Yield a file, or all files of a folder, put into Ray's object store once if they are to be carried."""
    import ray

    if not path.exists():
        raise MissingFileError(f"{path} is missing. Run `dvc checkout` or `dvc pull`, or `dvc repro` to make it.")
    for file in sorted(found for found in path.rglob("*") if found.is_file()) if path.is_dir() else [path]:
        yield CarriedFile(str(file), tuple(map(ray.put, pieces_of(Path(), file))) if carry else ())


def laid_out(files: list[CarriedFile], folder: Path, seen: Path | None) -> None:
    """Lay out files in a task's folder: as links to where they are `seen`, or from the pieces that came with them."""
    from flukeprint.core.ray_cluster import result_of

    for file in files:
        target = folder / file.path
        target.parent.mkdir(parents=True, exist_ok=True)
        if seen is not None:
            target.symlink_to(seen / file.path)
            continue
        with target.open("wb") as stream:
            for reference in file.pieces:
                stream.write(result_of(reference).data)
