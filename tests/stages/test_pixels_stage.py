"""The stage pixels by DVC, which leaves the last run's shards where they are."""

import hashlib
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest
from pipeline_project import new_project, run

from flukeprint.core.files import sha256_of, write_frame, write_json


@pytest.fixture
def project(tmp_path, photos) -> Path:
    """A project with what the stage reads, and links from the workspace to DVC's cache."""
    folder = new_project(tmp_path / "project", photos)
    for part in ("train", "test"):
        shutil.copytree(photos / part, folder / "data/raw" / part)
        names = sorted(path.name for path in (photos / part).iterdir())
        sums = [sha256_of(photos / part / name) for name in names]
        write_frame(
            folder / f"data/validated/{part}.parquet", pd.DataFrame({"Image": names, "sha256": sums, "Id": "a"})
        )
        write_frame(folder / f"data/boxes/{part}.parquet", pd.DataFrame({"Image": names}))
    write_json(folder / "models/photo_size.json", {"size": [32, 32]})
    write_json(folder / "models/localiser/localiser.json", None)
    run(folder, "dvc", "config", "--local", "cache.type", "hardlink")
    assert set(made(folder)) == {"train", "test"}
    return folder


def made(folder: Path) -> dict[str, int]:
    """Let DVC run the stage; return the number of shards that it says to make of each part."""
    said = run(folder, "dvc", "repro", "--single-item", "pixels")
    return {part: int(number) for part, number in re.findall(r"data/pixels/(\w+): (\d+) of", said)}


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in (folder / "data/pixels").glob("*/*")}


@pytest.mark.slow
def test_shards_persist_and_the_cache_is_never_written_through(project):
    before = contents(project)
    assert all(path.stat().st_nlink == 2 for path in before)
    path = project / "data/validated/train.parquet"
    table = pd.read_parquet(path)
    write_frame(path, table.assign(Id="b"))
    assert made(project) == {"train": 0, "test": 0}
    assert contents(project) == before
    first, name = project / "data/raw/train" / table["Image"][0], project / "data/raw/train/zz.jpg"
    shutil.copyfile(first, name)
    write_frame(path, pd.concat([table, pd.DataFrame([[name.name, sha256_of(name), "b"]], columns=table.columns)]))
    assert made(project) == {"train": 1, "test": 0}
    assert contents(project).keys() - before.keys()
    shutil.rmtree(project / "data/pixels/train")
    write_frame(path, table)
    assert made(project) == {"train": len([one for one in before if one.parent.name == "train"]) - 1, "test": 0}
    assert contents(project) == before
    cached = [one for one in (project / ".dvc/cache/files/md5").glob("*/*") if one.suffix != ".dir"]
    assert len(cached) >= len(before)
    assert all(hashlib.md5(one.read_bytes()).hexdigest() == one.parent.name + one.name for one in cached)
