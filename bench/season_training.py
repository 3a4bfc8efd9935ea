"""A season's decisions go back into training, and the catalogue answers with what came of it.

`python -m bench.season_training NEW`: in the new folder a copy of the project is made, with photos that the project
draws. A catalogue is answered by the sample's pretrained network, its snapshot is trained on, and its bundle answers.
Then comes a season: photos of known whales and of others are decided as whom they show, a second snapshot is trained
on, and the second bundle answers. Every command is printed with what it says, as docs/season.md shows it.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from copy import deepcopy
from pathlib import Path

import pandas as pd
from dvc.utils.serialize import modify_yaml

from flukeprint.catalogue.catalogues import open_catalogue
from flukeprint.catalogue.deciding import Wish, decide
from flukeprint.catalogue.sightings import holdings_of
from flukeprint.data.labels import NEW_WHALE

ROOT = Path(__file__).parents[1]
WEIGHTS = "flukeprint/weights/sample_backbone.safetensors"
NETWORK = f"--backbone shufflenet_v2_x0_5 --weights {WEIGHTS} --size 64x128 --mean .5 .5 .5 --std .25 .25 .25"
METRICS = r"Path|gallery\.(map5|known_top1|known_top5|new_top1) |(full_train|full_classes) "
WHALES = 90  # of those that the project draws
OTHERS = 8  # whales that only the season shows
SEEN_AGAIN = 30  # whales that it shows again, in an encounter of one photo or two
ENVIRONMENT = {
    **os.environ,
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    **dict.fromkeys(("GIT_AUTHOR_NAME", "GIT_COMMITTER_NAME", "FLUKEPRINT_WHO"), "ann"),
    **dict.fromkeys(("GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL"), "ann@example.org"),
    "FLUKEPRINT_CATALOGUE": "whales",
}


def main() -> None:
    """Go the whole way."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="new")
    project = parser.parse_args().folder.absolute()
    ENVIRONMENT["PYTHONPATH"] = str(project)
    project.mkdir()
    quietly(project, f"git clone --quiet {shlex.quote(str(ROOT))} . && dvc repro fetch")
    truth = two_tables(project)
    shown(project, f"flukeprint catalogue create whales {NETWORK} --from known.csv --photos photos")
    train_on_snapshot(project, "What is known")
    shown(project, "flukeprint export bundles/1")
    shown(project, "flukeprint catalogue embed --bundle bundles/1")
    shown(project, "flukeprint catalogue identify season.csv --photos photos", most=14)
    shown(project, decided_as(project, truth))
    train_on_snapshot(project, "And a season")
    shown(project, f"dvc metrics diff HEAD~1 | grep -E {shlex.quote(METRICS)}")
    shown(project, "flukeprint export bundles/2")
    interrupted(project, "flukeprint catalogue embed --bundle bundles/2")
    shown(project, "flukeprint catalogue embed --bundle bundles/2")
    shown(project, "flukeprint catalogue identify")


def two_tables(project: Path) -> dict[str, str]:
    """Write what is known, and the season's photos; return whom each photo shows."""
    (project / "data/raw/train").rename(project / "photos")
    table = pd.read_csv(project / "data/raw/train.csv")
    labels = sorted(set(table["Id"]) - {NEW_WHALE})[:WHALES]
    named = table[table["Id"].isin(labels)]
    counts = named["Id"].value_counts()
    several = sorted(counts.index[counts.between(3, 8)])
    others, again = several[:OTHERS], several[OTHERS : OTHERS + SEEN_AGAIN]
    late = named[named["Id"].isin(again)].groupby("Id").tail(2)
    season = pd.concat([late, named[named["Id"].isin(others)]])
    number = season.groupby("Id").ngroup() + 100 * (season.groupby("Id").cumcount() // 2)
    pd.DataFrame({"image": season["Image"], "encounter": "enc" + number.astype(str)}).to_csv(
        project / "season.csv", index=False
    )
    named.drop(season.index).rename(columns={"Image": "image", "Id": "individual"}).to_csv(
        project / "known.csv", index=False
    )
    return dict(season.to_numpy().tolist())


def decided_as(project: Path, truth: dict[str, str]) -> str:
    """Decide all encounters of the season but one as whom they show; return the command for that one."""
    catalogue = open_catalogue(str(project / "whales"))
    holdings = holdings_of(catalogue)
    known = {one.id for one in holdings.individuals}
    whom = {one.encounter: truth[one.name] for one in holdings.sightings if one.name in truth}
    wishes = []
    for encounter, name in whom.items():
        wishes.append(Wish("confirm" if name in known else "new", encounter, individual=name))
        known.add(name)
    *others, last = wishes
    decide(catalogue, others, "ann")
    say(f"# {len(others)} more are decided like this one, {sum(one.action == 'new' for one in others)} of them as new")
    return f"flukeprint catalogue decide {last.action} e{last.encounter} {last.individual}"


def train_on_snapshot(project: Path, message: str) -> None:
    """Take a snapshot, name it in params.yaml, run the pipeline, and commit."""
    before = set(project.glob("data/snapshots/*.parquet"))
    shown(project, "flukeprint catalogue snapshot")
    [path] = set(project.glob("data/snapshots/*.parquet")) - before
    with modify_yaml(project / "params.yaml") as params:
        params["profile"], params["recipe"] = "catalogue", "metric"
        own, sample = params["profiles"]["catalogue"], params["profiles"]["sample"]
        own |= {
            "path": path.relative_to(project).as_posix(),
            **{k: deepcopy(sample[k]) for k in ("image_size", "backbone")},
        }
        own["epochs"] = {"train": 4, "finetune": 8, "full_head": 4}
        params["recipes"]["metric"]["finetune"]["epochs"] = 8
        params["ensemble"]["members"] = ["m1"]
    say(f"# params.yaml: profiles.catalogue.path: {path.relative_to(project)}")
    say("$ dvc repro && git add data/snapshots && git commit --all")
    quietly(project, f"dvc repro && git add data/snapshots && git commit --quiet --all --message '{message}'")


# --- commands --------------------------------------------------------------------------------------------------------


def say(line: str) -> None:
    """Print at once: commands print past this program."""
    print(line, flush=True)


def quietly(project: Path, command: str) -> str:
    """Run a command line and return what it says, on standard error too if it fails: then this program ends."""
    done = subprocess.run(["/bin/sh", "-c", command], cwd=project, env=ENVIRONMENT, capture_output=True, text=True)  # noqa: PLW1510
    if done.returncode:
        raise SystemExit(f"{command}:\n{done.stdout}{done.stderr}")
    return done.stdout


def shown(project: Path, command: str, most: int = 0) -> None:
    """Print a command and what it says, or its first lines."""
    said = quietly(project, command).rstrip().splitlines()
    say("\n".join([f"$ {command}", *said[: most or None], *["..."] * (0 < most < len(said))]))


def interrupted(project: Path, command: str) -> None:
    """Run a command and kill it once it has saved vectors of a new model."""
    newest = "SELECT max(id) FROM models"
    saved = "SELECT count(*) FROM vectors WHERE model_id = (SELECT max(id) FROM models)"
    with closing(sqlite3.connect(project / "whales/catalogue.db", timeout=60)) as database:
        [before] = database.execute(newest).fetchone()
        run = subprocess.Popen(shlex.split(command), cwd=project, env=ENVIRONMENT, stderr=subprocess.DEVNULL)
        while run.poll() is None:
            if database.execute(newest).fetchone() != (before,) and database.execute(saved).fetchone() != (0,):
                run.kill()
            time.sleep(0.01)
    say(f"$ {command}" + "\nKilled" * (run.returncode < 0))


if __name__ == "__main__":
    main()
