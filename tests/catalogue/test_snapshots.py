"""Snapshots: what people decided goes back into training, as the same photos in a folder would."""

from __future__ import annotations

import csv
import shutil
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest
from catalogue_rows import open_encounter, open_photo
from catalogue_season import ENCOUNTERS, fill
from dvc.utils.serialize import load_yaml
from pipeline_project import ROOT, set_params
from sqlalchemy import insert

from flukeprint.catalogue.catalogues import Catalogue, create_catalogue
from flukeprint.catalogue.deciding import Wish, decide
from flukeprint.catalogue.entities import EncounterRow, PhotoRow
from flukeprint.catalogue.sightings import holdings_of
from flukeprint.catalogue.snapshots import take_snapshot
from flukeprint.cli.main import main
from flukeprint.core.errors import FlukeprintError
from flukeprint.core.files import sha256_of
from flukeprint.core.receipts import digest_of
from flukeprint.data.labels import NEW_WHALE
from flukeprint.data.sample import SampleSpec, draw_sample
from flukeprint.data.snapshot_table import read_snapshot, write_snapshot
from flukeprint.data.sources import fetch
from stages import backbone, finetune, localize, pixels, select, start, train, validate
from stages import fetch as fetch_stage

PHOTOS = SampleSpec(
    photos=(8, 7, 6, 5, 3, 3, 3, 2, 2, 2, 2, 1), new_whales=6, test_known=0, test_new=0, duplicates=2, conflicts=0,
    test_duplicates=0,
)  # fmt: skip
WRITTEN = [
    "data/selected/small.parquet", "data/selected/full.parquet", "data/selected/labels.json", "data/pixels/train",
    "data/pixels/test", "metrics/selection.json",
]  # fmt: skip


@pytest.fixture
def season(tmp_path) -> Catalogue:
    catalogue = create_catalogue(str(tmp_path / "whales"), in_place=True)
    fill(catalogue, tmp_path / "photos")
    return catalogue


def snapshot(catalogue: Catalogue, folder: Path, **options) -> Path:
    return take_snapshot(folder, holdings_of(catalogue).sightings, **options).path


# --- as a source of the pipeline ---------------------------------------------------------------------------------


def put(catalogue: Catalogue, folder: Path, together: int) -> None:
    """Put a folder in Kaggle's layout into a catalogue; so many photos of a whale make an encounter."""
    rows = list(csv.DictReader((folder / "train.csv").open()))
    seen: Counter[str] = Counter()
    numbers: dict[tuple[str, int], int] = {}
    wishes = []
    with catalogue.database.writing() as connection:
        for number, (image, whom) in enumerate(map(dict.values, rows), 1):
            key = (whom, seen[whom] // together) if whom != NEW_WHALE else (image, 0)
            if key not in numbers:
                numbers[key] = encounter = len(numbers) + 1
                values = {"key": f"{encounter}", "name": f"enc{encounter}", "date": f"20{encounter % 20 + 10}"}
                connection.execute(insert(EncounterRow).values(id=encounter, **values))
                open_encounter(connection, encounter)
                if whom != NEW_WHALE:
                    wishes.append(Wish("confirm" if seen[whom] else "new", encounter, individual=whom))
            seen[whom] += 1
            path = folder / "train" / image
            connection.execute(
                insert(PhotoRow).values(
                    id=number, sha256=sha256_of(path), name=image, path=str(path), size=1, width=1, height=1, flags="",
                    phash="0" * 16, thumbnail=b"", encounter_id=numbers[key],
                )
            )  # fmt: skip
            open_photo(connection, number)
    decide(catalogue, wishes, "ann")


def prepared(folder: Path, monkeypatch, **params) -> Path:
    """Run the stages up to select and pixels in a new folder."""
    folder.mkdir()
    shutil.copyfile(ROOT / "params.yaml", folder / "params.yaml")
    profile = params["profile"]
    options = {f"profiles__{profile}__image_size": 32, **training(profile), **params}
    set_params(folder, select__threshold=4, select__new_whale=3, **options)
    monkeypatch.chdir(folder)
    for stage in (fetch_stage, localize, validate, select, backbone, pixels):
        stage.main()
    return folder


@pytest.fixture
def drawn(tmp_path) -> Path:
    """Photos of which none are to be labelled."""
    folder = tmp_path / "drawn"
    folder.mkdir()
    draw_sample(folder, 0, PHOTOS)
    shutil.rmtree(folder / "test")
    (folder / "sample_submission.csv").unlink()
    return folder


def snapshot_of(drawn: Path, together: int) -> Path:
    catalogue = create_catalogue(str(drawn.parent / "whales"), in_place=True)
    put(catalogue, drawn, together)
    return snapshot(catalogue, drawn.parent / "snapshots", undecided_as_new=True)


def training(profile: str) -> dict[str, object]:
    """Return parameters for a training of an epoch."""
    drawn = load_yaml(ROOT / "params.yaml")["profiles"]["sample"]["backbone"]
    weights = str(ROOT / drawn["weights"])
    return {
        f"profiles__{profile}__backbone": {**drawn, "weights": weights},
        f"profiles__{profile}__epochs": {"train": 1, "finetune": 1, "full_head": 1},
        "ensemble__members": ["m1"],
    }


def test_a_snapshot_trains_to_the_same_bytes_as_the_folder(drawn, tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["stage", "m1"])
    path, found = snapshot_of(drawn, together=1), []
    for profile, source in (("folder", drawn), ("catalogue", path)):
        options = {f"profiles__{profile}__path": str(source)}
        folder = prepared(tmp_path / profile, monkeypatch, profile=profile, **options)
        for stage in (train, start, finetune):
            stage.main()
        found.append({name: digest_of(folder / name) for name in (*WRITTEN, "models/finetuned/m1.safetensors")})
    assert found[0] == found[1]


def test_encounters_of_a_catalogue_stay_on_one_side(drawn, tmp_path, monkeypatch):
    path = str(snapshot_of(drawn, together=2))
    made = prepared(tmp_path / "a", monkeypatch, profile="catalogue", profiles__catalogue__path=path)
    full = pd.read_parquet(made / "data/selected/full.parquet")
    encounters = pd.read_parquet(made / "data/validated/train.parquet").set_index("Image")["encounter"].astype(str)
    assert full["split"].groupby(full["Image"].map(encounters)).nunique().max() == 1
    assert encounters.nunique() < len(full)
    options = {"select__protocol": "time", "select__holdout": 0.2, "profiles__catalogue__path": path}
    made = prepared(tmp_path / "b", monkeypatch, profile="catalogue", **options)
    full = pd.read_parquet(made / "data/selected/full.parquet").set_index("Image")["split"]
    taken = pd.read_parquet(made / "data/validated/train.parquet").set_index("Image")["taken_at"][full.index]
    assert taken[full == "query"].min() >= taken[full == "calibration"].max()


# --- the table itself ----------------------------------------------------------------------------------------------


def test_what_was_decided_is_in_it_and_what_was_not_is_left_out(season, tmp_path):
    rows = read_snapshot(snapshot(season, tmp_path / "snapshots"))
    whom = [whom for *_, names, whom in ENCOUNTERS.values() for _ in names if whom is not None]
    assert [row["Id"] for row in rows] == whom
    assert [row["encounter"] for row in rows] == ["e1", "e1", "e2", "e3", "e3", "e4", "e5", "e7"]
    assert rows[0]["taken_at"] == "2021-07-01T09:01:00"
    assert [row["taken_at"] for row in rows if row["encounter"] in ("e4", "e5")] == ["2023", None]
    # Names are those of the photos; no two are alike, also where case does not count.
    assert [row["Image"] for row in rows[:2]] == ["a.jpg", "b.png"]
    assert rows[2]["Image"] == f"A-{rows[2]['sha256'][:8]}.JPG"
    more = read_snapshot(snapshot(season, tmp_path / "snapshots", undecided_as_new=True))
    assert [row["Id"] for row in more if row["encounter"] == "e6"] == ["new_whale"]


def test_the_name_follows_from_the_content_and_not_from_where_it_is(season, tmp_path):
    path = snapshot(season, tmp_path / "snapshots")
    assert snapshot(season, tmp_path / "snapshots") == path
    content = path.read_bytes()
    assert snapshot(season, tmp_path / "elsewhere/deep").name == path.name
    decide(season, [Wish("confirm", 6, individual="w_3")], "ann")
    later = snapshot(season, tmp_path / "snapshots")
    assert later.name != path.name
    assert path.read_bytes() == content
    assert len(read_snapshot(later)) == len(read_snapshot(path)) + 1


@pytest.mark.parametrize("how", ["renamed", "changed", "no table"])
def test_a_snapshot_that_is_not_what_its_name_says_is_refused(season, tmp_path, how):
    path = snapshot(season, tmp_path / "snapshots")
    match how:
        case "renamed":
            path = path.rename(path.with_name("best.parquet"))
        case "changed":
            other = snapshot(season, tmp_path / "snapshots", undecided_as_new=True)
            path.write_bytes(other.read_bytes())
        case "no table":
            path.write_bytes(b"PAR1")
    with pytest.raises(FlukeprintError, match=f"{path.name} is not .*flukeprint catalogue snapshot"):
        fetch("catalogue", tmp_path / "raw", str(path), 0)
    assert not (tmp_path / "raw").exists()


def test_a_snapshot_writes_no_photo_outside_its_folder(season, tmp_path):
    rows = read_snapshot(snapshot(season, tmp_path / "snapshots"))
    path = write_snapshot(tmp_path, [rows[0] | {"Image": "../../a.jpg"}])
    with pytest.raises(FlukeprintError, match="leads out of its folder"):
        fetch("catalogue", tmp_path / "raw", str(path), 0)
    assert not (tmp_path / "raw").exists()


@pytest.mark.parametrize(("how", "message"), [("gone", "cannot be read"), ("another", "is another one")])
def test_a_photo_that_is_not_the_decided_one_is_named_and_nothing_is_copied(season, tmp_path, how, message):
    path = snapshot(season, tmp_path / "snapshots")
    photo = tmp_path / "photos/5-d.jpg"
    photo.unlink() if how == "gone" else photo.write_bytes(b"another")
    with pytest.raises(FlukeprintError, match=rf"5-d\.jpg' {message}"):
        fetch("catalogue", tmp_path / "raw", str(path), 0)
    assert not (tmp_path / "raw").exists()


def test_the_command_says_how_to_train_on_it(season, tmp_path, capsys):
    main(["catalogue", "snapshot", "--to", str(tmp_path / "snapshots"), "--catalogue", season.place])
    [path] = (tmp_path / "snapshots").iterdir()
    said = capsys.readouterr().out
    assert "8 photos of 3 individuals in 6 encounters" in said
    assert "1 photo that nobody decided: left out" in said
    assert f"dvc exp run -S profile=catalogue -S profiles.catalogue.path={path}" in said


def test_nothing_decided_is_nothing_to_train_on(tmp_path):
    create_catalogue(str(tmp_path / "whales"), in_place=True)
    with pytest.raises(SystemExit, match="error: no photo shows an individual"):
        main(["catalogue", "snapshot", "--to", str(tmp_path / "s"), "--catalogue", str(tmp_path / "whales")])
    assert not (tmp_path / "s").exists()
