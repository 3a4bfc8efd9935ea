"""Whether training on a catalogue's snapshot gives the same bytes as on a folder with the same photos.

From a folder in Kaggle's layout photos of the individuals with most photos are taken, and some of new_whale. They are a
folder of their own, and are imported into a catalogue, of which a snapshot is taken. Of both, with one member, the
stages up to `finetune` are run, and the SHA-256 of what they leave is compared.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from contextlib import chdir, redirect_stdout
from pathlib import Path

import pandas as pd
from dvc.utils.serialize import modify_yaml

from flukeprint.cli.main import main as flukeprint
from flukeprint.core.files import sha256_of
from flukeprint.core.receipts import digest_of
from flukeprint.data.labels import NEW_WHALE
from stages import backbone, fetch, finetune, localize, pixels, select, start, train, validate

ROOT = Path(__file__).parents[1]
STAGES = (fetch, localize, validate, select, backbone, pixels, train, start, finetune)
COMPARED = ("data/selected/small.parquet", "data/pixels/train", "models/head/m1.safetensors",
            "models/finetuned/m1.safetensors")  # fmt: skip
NETWORK = ("--backbone", "shufflenet_v2_x0_5", "--weights", "random", "--size", "64")


def main() -> None:
    """Run the bench and print the checksums as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="in Kaggle's layout")
    parser.add_argument("--photos", type=int, default=300)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--backbone", default="mobilenet_v2")
    parser.add_argument("--weights", default="imagenet")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as place, redirect_stdout(sys.stderr):
        folder = subset(arguments.folder, Path(place) / "folder", arguments.photos)
        snapshot = snapshot_of(folder, Path(place))
        sources = {"folder": folder, "catalogue": snapshot}
        found = {profile: trained(Path(place), profile, source, arguments) for profile, source in sources.items()}
    print(json.dumps({**found, "the_same": found["folder"] == found["catalogue"]}, indent=2))


def subset(source: Path, target: Path, photos: int) -> Path:
    """Copy some photos: five in six of the individuals with most, the rest of new_whale, no file twice."""
    table = pd.read_csv(source / "train.csv")
    table["number"] = table.groupby("Id")["Image"].transform("count").where(table["Id"] != NEW_WHALE, 0)
    named = table.sort_values(["number", "Id", "Image"], ascending=[False, True, True]).head(photos * 5 // 6)
    others = table[table["Id"] == NEW_WHALE].head(photos - len(named))
    (target / "train").mkdir(parents=True)
    chosen = pd.concat([named, others]).sort_index()
    chosen["sha256"] = [sha256_of(source / "train" / name) for name in chosen["Image"]]
    chosen = chosen.drop_duplicates("sha256")
    for name in chosen["Image"]:
        shutil.copy(source / "train" / name, target / "train" / name)
    chosen[["Image", "Id"]].to_csv(target / "train.csv", index=False)
    return target


def snapshot_of(folder: Path, place: Path) -> Path:
    """Import a folder's photos into a catalogue and take a snapshot; what it is answered with does not matter."""
    catalogue, snapshots = str(place / "whales"), place / "snapshots"
    table, photos = str(folder / "train.csv"), str(folder / "train")
    flukeprint(["catalogue", "create", catalogue, *NETWORK, "--from", table, "--photos", photos, "--who", "bench"])
    to = ["--catalogue", catalogue, "--to", str(snapshots)]
    flukeprint(["catalogue", "snapshot", *to, "--undecided", "new-whale"])
    [path] = snapshots.glob("*.parquet")
    return path


def trained(place: Path, profile: str, source: Path, arguments: argparse.Namespace) -> dict[str, str]:
    """Run the stages in a new folder; return the checksums of what they leave."""
    project = place / f"project of {profile}"
    project.mkdir()
    shutil.copyfile(ROOT / "params.yaml", project / "params.yaml")
    with modify_yaml(project / "params.yaml") as params:
        params["profile"] = profile
        params["ensemble"]["members"] = ["m1"]
        own = params["profiles"][profile]
        own["path"], own["image_size"] = str(source), arguments.size
        own["epochs"] = dict.fromkeys(("train", "finetune", "full_head"), arguments.epochs)
        own["backbone"] |= {"name": arguments.backbone, "weights": arguments.weights}
    sys.argv = ["stage", "m1"]
    with chdir(project):
        for stage in STAGES:
            stage.main()
    return {name: digest_of(project / name) for name in COMPARED}


if __name__ == "__main__":
    main()
