"""The three sources of raw photos, all brought into Kaggle's layout."""

from __future__ import annotations

import os
import shutil
import zipfile
from pathlib import Path

from tqdm import tqdm

from flukeprint.core.errors import FlukeprintError
from flukeprint.core.files import replacing_folder

TABLES = ("train.csv", "sample_submission.csv")
FOLDERS = ("train", "test")
_LAYOUT = "Kaggle's layout is train.csv (Image,Id), sample_submission.csv (Image,Id), train/ and test/ with the photos"


def fetch_sample(target: Path, seed: int) -> None:
    """Draw the project's own sample data set into `target`."""
    from flukeprint.data.sample import draw_sample

    with replacing_folder(target) as temporary:
        draw_sample(temporary, seed)


def fetch_folder(target: Path, source: Path) -> None:
    """Copy a folder in Kaggle's layout to `target`; other files beside it are left where they are.

    Raises:
        FlukeprintError: the folder or a part of the layout is missing.

    """
    check_layout(source)
    with replacing_folder(target) as temporary:
        for table in TABLES:
            shutil.copyfile(source / table, temporary / table)
        for folder in FOLDERS:
            _copy_photos(source / folder, temporary / folder)


def check_layout(folder: Path) -> None:
    """Refuse a folder that is not in Kaggle's layout, naming what is missing."""
    if not folder.is_dir():
        raise FlukeprintError(
            f"profiles.<profile>.path is {str(folder)!r}, but there is no such folder. {_LAYOUT}: "
            "set the path in params.yaml to a folder like that."
        )
    missing = [name for name in TABLES if not (folder / name).is_file()]
    missing += [f"{name}/" for name in FOLDERS if not (folder / name).is_dir()]
    if missing:
        raise FlukeprintError(f"{folder} has no {', '.join(missing)}. {_LAYOUT}.")


def _copy_photos(source: Path, target: Path) -> None:
    """Copy the files of one folder. Links stay links: validate names those that lead elsewhere."""
    target.mkdir()
    with os.scandir(source) as entries:
        files = sorted(entry.name for entry in entries if not entry.is_dir(follow_symlinks=False))
    for name in tqdm(files, f"copy {source.name}", unit="photo", disable=None):
        shutil.copyfile(source / name, target / name, follow_symlinks=False)


def fetch_kaggle(target: Path, competition: str) -> None:
    """Download and unpack a competition's files with Kaggle's official client.

    Raises:
        FlukeprintError: no client, no credentials, no network, or the rules are not accepted; with the ways out.

    """
    _require_credentials(competition)
    with replacing_folder(target) as temporary:
        archive = temporary / f"{competition}.zip"
        _download(competition, temporary)
        _unpack(archive, temporary)
        for folder in FOLDERS:
            if not (temporary / folder).is_dir() and (temporary / f"{folder}.zip").is_file():
                (temporary / folder).mkdir()
                _unpack(temporary / f"{folder}.zip", temporary / folder)
        check_layout(temporary)


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
    """Unpack a zip file and remove it; entries that would leave the folder are refused."""
    try:
        with zipfile.ZipFile(archive) as content:
            for name in content.namelist():
                if not (folder / name).resolve().is_relative_to(folder.resolve()):
                    raise FlukeprintError(
                        f"{archive.name} has an entry {name!r} that leads out of its folder; refused."
                    )
            content.extractall(folder)
    except (FileNotFoundError, zipfile.BadZipFile) as error:
        raise FlukeprintError(
            f"{archive.name} is not a readable zip file ({error}). Run again to download it."
        ) from None
    archive.unlink()
