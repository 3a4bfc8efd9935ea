"""A season of whales that no network was trained on, answered by the catalogue: `python -m bench.season`.

From the photos of a project with a finished run, and a bundle of it, are drawn for each seed: 60 known whales, of which
every photo but those of the season is imported; and a season of 40 photos in 26 encounters, 15 of known whales and 11
of others. No whale among them is a label of a fine-tuned network, gave a photo to the calibration, or has a photo
that is nearly the same picture as another whale's; no two photos of a whale are. Folders, and tables with semicolons,
a byte order mark and headers of their own, are brought in by the same two commands.

With --apart the others' photos are an encounter each, 37 in all, so that every other whale is seen twice: how often are
its two encounters answered as one individual, and how often those of two whales?
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import pandas as pd

from flukeprint.core.paths import FINETUNED, RAW, SELECTED
from flukeprint.data.labels import NEW_WHALE
from flukeprint.data.leaks import learned_individuals
from flukeprint.data.selected_tables import CALIBRATION

KNOWN, SEEN_AGAIN, OTHERS = 60, 15, 11
PAIRS = (3, 11)  # encounters of two photos, of whales seen again and of others; the rest have one
HEADERS = {"image": "Aufnahme", "individual": "Finne Nr.", "encounter": "Begegnung"}


Answers = dict[str, dict[str, Any]]  # by the names of encounters


@dataclass(frozen=True)
class DrawnSeason:
    """Photos by whale, and by encounter; whom encounters show, who may not be among the known."""

    known: dict[str, list[str]]
    encounters: dict[str, list[str]]
    whales: dict[str, str]


def main() -> None:
    """Run the bench and print its figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("project", type=Path, help="with the outputs of select, finetune and fetch")
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--folders", action="store_true", help="leave the tables out, which halves the time")
    parser.add_argument("--apart", action="store_true", help="others are seen twice, in two encounters")
    arguments = parser.parse_args()
    whales = untrained(arguments.project)
    photos, bundle = (path.absolute() for path in (arguments.project / RAW / "train", arguments.bundle))
    rows = []
    for seed in range(arguments.seeds):
        season = drawn(whales, np.random.default_rng(seed), apart=arguments.apart)
        answers = answered(as_folders, season, photos, bundle)
        rows.append({"seed": seed, **figures(season, answers)})
        if not arguments.folders:
            rows[-1]["tables_answer_the_same"] = same(answers, answered(as_tables, season, photos, bundle))
        print(json.dumps(rows[-1]), file=sys.stderr)
    names = [name for name, value in rows[0].items() if isinstance(value, int | float) and name != "seed"]
    spread = {name: [min(values), mean(values), max(values)] for name in names if (values := [r[name] for r in rows])}
    print(json.dumps({"whales_to_draw_from": len(whales), "seeds": rows, "min_mean_max": spread}, indent=2))


def untrained(project: Path) -> dict[str, list[str]]:
    """Return the photos of each whale that the project's networks and calibration never saw, one of a cluster."""
    table = pd.read_parquet(project / SELECTED / "full.parquet").sort_values("Image")
    shared = table.groupby("cluster")["Id"].transform("nunique") > 1
    learned = learned_individuals((project / FINETUNED).glob("*.safetensors"))
    refused = learned | set(table.loc[shared | (table["split"] == CALIBRATION), "Id"]) | {NEW_WHALE}
    own = table[~table["Id"].isin(refused)].drop_duplicates("cluster")
    return {str(name): list(images) for name, images in own.groupby("Id")["Image"]}


def drawn(whales: dict[str, list[str]], rng: np.random.Generator, *, apart: bool = False) -> DrawnSeason:
    """Draw the known whales, the season's photos of some, and others, `apart` with an encounter for each photo."""
    names = [str(name) for name in rng.permutation(sorted(whales))]
    photos = {name: [str(image) for image in rng.permutation(whales[name])] for name in names}
    often = [name for name in names if len(photos[name]) >= 3][: PAIRS[0]]
    again = often + [name for name in names if len(photos[name]) == 2][: SEEN_AGAIN - PAIRS[0]]
    several = [name for name in names if len(photos[name]) >= 2 and name not in again]
    known = again + several[: KNOWN - SEEN_AGAIN]
    pairs = several[KNOWN - SEEN_AGAIN :][: PAIRS[1]]
    others = pairs + [name for name in names if name not in {*known, *pairs}][: OTHERS - PAIRS[1]]
    taken = {name: photos[name][: 2 if name in {*often, *pairs} else 1] for name in again + others}
    split = others if apart else []
    seen = [
        (name, part)
        for name, own in sorted(taken.items())
        for part in ([[one] for one in own] if name in split else [own])
    ]
    order = [seen[place] for place in rng.permutation(len(seen))]
    return DrawnSeason(
        {name: [image for image in photos[name] if image not in taken.get(name, ())] for name in known},
        {f"enc{number:02}": part for number, (_, part) in enumerate(order)},
        {f"enc{number:02}": name for number, (name, _) in enumerate(order)},
    )


# --- two ways to bring the photos in ---------------------------------------------------------------------------


def as_folders(place: Path, season: DrawnSeason, photos: Path) -> Iterator[list[str]]:
    """Copy the photos into a folder per whale and one per encounter; yield what `create` and `identify` are told."""
    for kind, content in (("known", season.known), ("season", season.encounters)):
        for name, image in rows_of(content):
            (place / kind / name).mkdir(parents=True, exist_ok=True)
            shutil.copy(photos / image, place / kind / name)
        yield [kind]


def as_tables(place: Path, season: DrawnSeason, photos: Path) -> Iterator[list[str]]:
    """Write two tables as a spreadsheet would; yield what `create` and `identify` are told."""
    for kind, column, content in (("known", "individual", season.known), ("season", "encounter", season.encounters)):
        with (place / f"{kind}.csv").open("w", encoding="utf-8-sig", newline="") as stream:
            writer = csv.writer(stream, delimiter=";")
            writer.writerow([HEADERS["image"], HEADERS[column]])
            writer.writerows([image, name] for name, image in rows_of(content))
        said = [f"--column={name}={HEADERS[name]}" for name in ("image", column)]
        yield [f"{kind}.csv", "--photos", str(photos), *said]


def rows_of(content: dict[str, list[str]]) -> list[tuple[str, str]]:
    """Return pairs of a name and one of its photos."""
    return [(name, image) for name, images in content.items() for image in images]


Way = Callable[[Path, DrawnSeason, Path], Iterator[list[str]]]


def answered(write: Way, season: DrawnSeason, photos: Path, bundle: Path) -> Answers:
    """Run the two commands in a new folder and return the answer of each encounter."""
    with tempfile.TemporaryDirectory() as folder:
        known, asked = write(Path(folder), season, photos)
        command(folder, "create", "--bundle", str(bundle), "--from", *known)
        answers = json.loads(command(folder, "identify", *asked, "--json"))["queue"]
    return {name: answer for answer in answers for name in answer["names"]}


def command(folder: str, *arguments: str) -> str:
    """Run a command of the catalogue in a folder; return what it printed."""
    full = [sys.executable, "-m", "flukeprint.cli", "catalogue", *arguments]
    environment = os.environ | {"FLUKEPRINT_WHO": "bench"}
    return subprocess.run(full, check=True, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True).stdout


# --- figures ---------------------------------------------------------------------------------------------------


def figures(season: DrawnSeason, answers: Answers) -> dict[str, float]:
    """Count how many encounters of known whales are named, and how many others are found to be new."""
    ids = {name: [one["id"] for one in answer["candidates"]] for name, answer in answers.items()}
    known = [(name, whale) for name, whale in season.whales.items() if whale in season.known]
    others = [name for name, whale in season.whales.items() if whale not in season.known]
    named: dict[str, float] = {
        "encounters": len(season.encounters),
        "photos": len(rows_of(season.encounters)),
        "known": len(known),
        "first": sum(ids[name][:1] == [whale] for name, whale in known),
        "among_five": sum(whale in ids[name][:5] for name, whale in known),
        "others": len(others),
    }
    if any(answer["new_probability"] is None for answer in answers.values()):  # by similarity alone
        return named
    new = {name for name, answer in answers.items() if is_new(answer)}
    return {
        **named,
        "known_called_new": sum(name in new for name, _ in known),
        "others_called_new": sum(name in new for name in others),
        "chance_of_new_tells_apart": auroc([answers[n] for n in others], [answers[n] for n, _ in known]),
        **among_themselves(season, answers, new),
    }


def among_themselves(season: DrawnSeason, answers: Answers, new: set[str]) -> dict[str, float]:
    """Count the pairs of encounters that were answered as one individual, and should have been."""
    pairs = list(combinations(season.encounters, 2))
    joined = {frozenset(pair) for names in groups(answers) for pair in combinations(names, 2)}
    one_whale = {frozenset(pair) for pair in pairs if season.whales[pair[0]] == season.whales[pair[1]]}
    return {
        "pairs_of_one_whale": len(one_whale),
        "joined": len(joined & one_whale),
        "joined_as_new": sum(pair <= new for pair in joined & one_whale),
        "pairs_of_two_whales": len(pairs) - len(one_whale),
        "wrongly_joined": len(joined - one_whale),
        "groups_of_several": len(groups(answers)),
        "groups_of_several_whales": sum(len({season.whales[name] for name in names}) > 1 for names in groups(answers)),
    }


def is_new(answer: dict[str, Any]) -> bool:
    """Tell whether nobody is more probable than the first candidate."""
    return not answer["candidates"] or answer["new_probability"] > answer["candidates"][0]["probability"]


def groups(answers: Answers) -> list[list[str]]:
    """Return the encounters that were answered together."""
    found: dict[tuple[int, ...], list[str]] = {}
    for name, answer in answers.items():
        found.setdefault(tuple(answer["encounters"]), []).append(name)
    return [names for names in found.values() if len(names) > 1]


def auroc(new: Sequence[dict[str, Any]], known: Sequence[dict[str, Any]]) -> float:
    """Return how often a new whale's answer gives a new whale more than a known one's does."""
    pairs = [(a["new_probability"], b["new_probability"]) for a in new for b in known]
    return round(float(mean((a > b) + (a == b) / 2 for a, b in pairs)), 3)


def same(first: Answers, second: Answers) -> bool:
    """Tell whether two ways gave the same candidates, in the same order."""
    ranked = [{name: [one["id"] for one in own[name]["candidates"]] for name in sorted(own)} for own in (first, second)]
    return ranked[0] == ranked[1]


if __name__ == "__main__":
    main()
