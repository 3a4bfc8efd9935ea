"""The sources of raw photos, all brought into Kaggle's layout. Another one is a function here, named in SOURCES."""

from __future__ import annotations

import logging
import os
import shutil
import stat
import zipfile
from collections.abc import Callable, Collection
from pathlib import Path

from tqdm import tqdm

from flukeprint.core.errors import FlukeprintError
from flukeprint.core.files import reading
from flukeprint.core.replacement import replacing_folder
from flukeprint.data.labels import MARKED
from flukeprint.data.photo_folders import hint_beside, list_folder, said_of_others
from flukeprint.data.tables import read_table

log = logging.getLogger(__name__)

TABLES = ("train.csv", "sample_submission.csv")
FOLDERS = ("train", "test")
# Of a source that has it: boxes around the flukes of some train photos, for the stage `localize`.
BOXES = "boxes.csv"
# Bytes that an archive may unpack to: so many, and so many for each of its own. Photos hardly shrink, tables tenfold.
_FREE, _PER_BYTE = 1 << 26, 20
# What a catalogue without photos to label has neither of.
_TO_LABEL = ["sample_submission.csv", "test/"]
_LAYOUT = (
    "Kaggle's layout is train.csv (Image,Id), sample_submission.csv (Image,Id), train/ and test/ with the photos; a "
    "catalogue with nothing to label has neither sample_submission.csv nor test/"
)


def fetch(source: str, target: Path, path: str | None, seed: int) -> None:
    """Bring the photos and tables of a source to `target`, whole or not at all; an unknown one is a FlukeprintError."""
    if source not in SOURCES:
        raise FlukeprintError(
            f"profiles.<profile>.source is {source!r}, expected one of {', '.join(SOURCES)}. Set it in params.yaml."
        )
    SOURCES[source](target, path, seed)


def _sample(target: Path, _path: str | None, seed: int) -> None:
    """Draw the project's own sample data set."""
    from flukeprint.data.sample import draw_sample

    with replacing_folder(target) as temporary:
        draw_sample(temporary, seed)


def _folder(target: Path, path: str | None, _seed: int) -> None:
    """Copy a folder in Kaggle's layout; what is no photo is left where it is, and named."""
    source = Path(_needed(path))
    _check_layout(source)
    with replacing_folder(target) as temporary:
        for folder, table in zip(FOLDERS, TABLES, strict=True):
            if (source / table).exists():
                shutil.copyfile(source / table, temporary / table)
                named = read_table(source / table).frame["Image"].dropna()
                _copy_photos(source / folder, temporary / folder, frozenset(named))
        if os.path.lexists(source / BOXES):
            shutil.copyfile(source / BOXES, temporary / BOXES)
        _complete(temporary)


def _catalogue(target: Path, path: str | None, _seed: int) -> None:
    """Copy the photos of a catalogue's snapshot."""
    from flukeprint.data.snapshot_table import lay_out_snapshot

    with replacing_folder(target) as temporary:
        lay_out_snapshot(Path(_needed(path)), temporary)
        _complete(temporary)


def _needed(path: str | None) -> str:
    if not path:
        raise FlukeprintError(
            "profiles.<profile>.path is empty, but the profile's source needs one: a folder, a catalogue's snapshot, "
            "or a competition's name. Set it in params.yaml."
        )
    return path


def _check_layout(folder: Path) -> None:
    """Refuse a folder that is not in Kaggle's layout, naming what is missing. Photos to label may be missing whole."""
    if not folder.is_dir():
        raise FlukeprintError(
            f"profiles.<profile>.path is {str(folder)!r}, but there is no such folder. {_LAYOUT}: "
            "set the path in params.yaml to a folder like that."
        )
    missing = [f"{name}{hint_beside(folder / name)}" for name in TABLES if not (folder / name).is_file()]
    missing += [f"{name}/{hint_beside(folder / name)}" for name in FOLDERS if not (folder / name).is_dir()]
    if missing and (missing != _TO_LABEL or any(os.path.lexists(folder / name) for name in _TO_LABEL)):
        raise FlukeprintError(f"{folder} has no {', '.join(missing)}. {_LAYOUT}.")


def _complete(folder: Path) -> None:
    """Complete a folder without marked boxes (a table without rows), or without photos to label.

    That is an empty test/, and a sample submission without rows.
    """
    if not (folder / BOXES).exists():
        (folder / BOXES).write_text(",".join(MARKED) + "\n", encoding="utf-8")
    if (folder / "test").exists():
        return
    log.info("There are no photos to label (no test/, no sample_submission.csv): the submission will be empty.")
    (folder / "test").mkdir()
    (folder / "sample_submission.csv").write_bytes(b"Image,Id\n")


def _copy_photos(source: Path, target: Path, named: Collection[str]) -> None:
    """Copy the photos of one folder. Links stay links: validate names those that lead elsewhere."""
    target.mkdir()
    content = list_folder(source, named)
    if others := said_of_others(source, content):
        log.warning(others)
    for name in tqdm(content.photos, f"copy {source.name}", unit="photo", disable=None):
        if not stat.S_ISREG(mode := (source / name).lstat().st_mode) and not stat.S_ISLNK(mode):
            raise FlukeprintError(f"{str(source / name)!r} is no file, but a pipe or the like. Move it away.")
        shutil.copyfile(source / name, target / name, follow_symlinks=False)


def _kaggle(target: Path, path: str | None, _seed: int) -> None:
    """Download and unpack a competition's files with Kaggle's official client; where that fails, name the ways out."""
    competition = _needed(path)
    _require_credentials(competition)
    with replacing_folder(target) as temporary:
        _download(competition, temporary)
        _unpack(temporary / f"{competition}.zip", temporary)
        for folder in FOLDERS:
            if not (temporary / folder).is_dir() and (temporary / f"{folder}.zip").is_file():
                (temporary / folder).mkdir()
                _unpack(temporary / f"{folder}.zip", temporary / folder)
        _check_layout(temporary)
        _complete(temporary)


def _ways_out(competition: str) -> str:
    return (
        f"Two ways out: (1) `pip install kaggle six`, make an API token on Kaggle's settings page "
        f"(kaggle.com/settings), accept the rules on kaggle.com/c/{competition}/rules, put the token into "
        "KAGGLE_API_TOKEN or ~/.kaggle/access_token (or KAGGLE_USERNAME and KAGGLE_KEY, or ~/.kaggle/kaggle.json), "
        "and run again; (2) download the competition's archive in a browser, unzip it into data/incoming, and run "
        "`dvc exp run -S profile=folder`."
    )


def _require_credentials(competition: str) -> None:
    home = Path(os.environ.get("KAGGLE_CONFIG_DIR", Path.home() / ".kaggle"))
    environment = "KAGGLE_API_TOKEN" in os.environ or {"KAGGLE_USERNAME", "KAGGLE_KEY"} <= set(os.environ)
    if not environment and not any((home / name).is_file() for name in ("access_token", "kaggle.json")):
        raise FlukeprintError(
            f"no Kaggle credentials: looked for KAGGLE_API_TOKEN, KAGGLE_USERNAME with KAGGLE_KEY, "
            f"access_token and kaggle.json in {home.name}/ of the home folder. {_ways_out(competition)}"
        )


def _download(competition: str, folder: Path) -> None:
    try:
        from kaggle.api.kaggle_api_extended import KaggleApi

        api = KaggleApi()
        api.authenticate()
        api.competition_download_files(competition, path=str(folder), quiet=False)
    except ImportError as error:
        raise FlukeprintError(f"Kaggle's client is not installed ({error}). {_ways_out(competition)}") from None
    except (Exception, SystemExit) as error:  # noqa: BLE001 - the client raises, or exits, with anything
        raise FlukeprintError(f"Kaggle's client failed on {competition!r}: {error}. {_ways_out(competition)}") from None


def _unpack(archive: Path, folder: Path) -> None:
    """Unpack a zip file and remove it; entries that would leave the folder, or fill the disk, are refused."""
    with reading(archive, "a readable zip file", "Run again to download it."), zipfile.ZipFile(archive) as content:
        for name in content.namelist():
            if not (folder / name).resolve().is_relative_to(folder.resolve()):
                raise FlukeprintError(f"{archive.name} has an entry {name!r} that leads out of its folder; refused.")
        # An entry gives no more bytes than it says here.
        size, unpacked = archive.stat().st_size, sum(entry.file_size for entry in content.infolist())
        if unpacked > _FREE + _PER_BYTE * size:
            raise ValueError(f"{size} bytes would unpack to {unpacked} (decompression bomb?)")
        content.extractall(folder)
    archive.unlink()


# By their name, `profiles.<profile>.source` in params.yaml: each makes a folder from (its path, the seed).
SOURCES: dict[str, Callable[[Path, str | None, int], None]] = {
    "sample": _sample,
    "folder": _folder,
    "catalogue": _catalogue,
    "kaggle": _kaggle,
}
