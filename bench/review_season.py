"""A season of real photos decided by keyboard alone in a browser: `python -m bench.review_season FOLDER --bundle DIR`.

FOLDER is in Kaggle's layout. Drawn from it are 60 known whales and a season of 40 photos in 26 encounters, as in
bench/season.py; the bundle must never have seen them. The reviewer is a script that sees the page as a person does, its
words and figures, and knows nothing else: it confirms whom the page says another encounter of the group shows, else the
first candidate if that is at least as probable as none of these, else it takes a new whale, with the proposed id.
Counted are keys, and seconds from page to page, in which nobody thinks.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bench.review_rows import Server
from bench.season import DrawnSeason, as_folders, command, drawn
from flukeprint.catalogue.catalogues import open_catalogue
from flukeprint.catalogue.sightings import holdings_of
from flukeprint.data.inspection import inspect_photo
from flukeprint.data.labels import NEW_WHALE
from flukeprint.data.near_duplicates import duplicate_pairs

_DRAWN_FROM = 600  # whales, of which near-duplicates are looked for


def main() -> None:
    """Run the bench and print its figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    parser.add_argument("--shots", type=Path, help="a folder for pictures of the first pages")
    arguments = parser.parse_args()
    rng = np.random.default_rng(arguments.seed)
    season = drawn(distinct(arguments.folder, rng), rng)
    with tempfile.TemporaryDirectory() as place:
        known, asked = as_folders(Path(place), season, arguments.folder / "train")
        command(place, "create", "whales", "--bundle", str(arguments.bundle.absolute()), "--from", *known)
        command(place, "identify", *asked, "--catalogue", "whales", "--json")
        server = Server(str(Path(place) / "whales"))
        try:
            steps = decided(server, arguments.chromium, arguments.shots)
        finally:
            server.kill()
        print(json.dumps(figures(season, str(Path(place) / "whales"), steps), indent=2))


def distinct(folder: Path, rng: np.random.Generator) -> dict[str, list[str]]:
    """Return whales with their photos: none is nearly the same picture as another one."""
    table = pd.read_csv(folder / "train.csv")
    table = table[table["Id"] != NEW_WHALE]
    several = table.groupby("Id")["Image"].transform("size") > 1
    names = [str(name) for name in rng.permutation(sorted(set(table.loc[several, "Id"])))][: _DRAWN_FROM // 2]
    names += [str(name) for name in rng.permutation(sorted(set(table["Id"])))][: _DRAWN_FROM // 2]
    table = table[table["Id"].isin(set(names))].sort_values("Image")
    records = [inspect_photo(folder / "train", image) for image in table["Image"]]
    hashes = np.array([record.phash for record in records], np.uint64)
    thumbnails = np.stack([np.frombuffer(record.thumbnail, np.uint8).reshape(32, 32) for record in records])
    pairs = duplicate_pairs(hashes, thumbnails)
    kept = table[~np.isin(np.arange(len(table)), pairs.j)]
    return {str(name): [str(image) for image in images] for name, images in kept.groupby("Id")["Image"]}


# --- the reviewer ---------------------------------------------------------------------------------------------


def decided(server: Server, chromium: str, shots: Path | None) -> list[dict[str, Any]]:
    """Decide all that is to be decided; return the keys and seconds of each page."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1366, "height": 768})
        page.goto(f"http://127.0.0.1:{server.port}/")
        steps: list[dict[str, Any]] = []
        with page.expect_navigation():
            page.keyboard.press("Enter")
        while "/encounters/" in page.url and page.locator("#decide").count() and is_open(page):
            started = time.perf_counter()
            keys, wish = keys_for(page)
            if shots and len(steps) < 3:
                page.screenshot(path=shots / f"season-{len(steps)}.png")
            for key in keys[:-1]:
                page.keyboard.press(key)
            with page.expect_navigation():
                page.keyboard.press(keys[-1])
            steps.append({"keys": len(keys), "seconds": time.perf_counter() - started, "wish": wish})
        browser.close()
    return steps


def is_open(page: Any) -> bool:
    """Tell whether the page says of nobody that the encounter shows them."""
    return not any("It shows" in text for text in page.locator(".hint").all_inner_texts())


def keys_for(page: Any) -> tuple[Sequence[str], str]:
    """Return the keys that decide about the encounter that is shown, and what they mean."""
    cards = page.locator(".candidates a.card").all_inner_texts()
    together = ["g"] if page.locator('[name="also"]').count() else []
    if cards and "probably shows the same whale" in cards[0]:
        return [*together, "c"], "confirm"
    nobody = page.locator(".candidates .nobody .chance").all_inner_texts()
    if cards and (not nobody or share(cards[0]) >= share(nobody[0])):
        return [*together, "c"], "confirm"
    return [*together, "n", "Enter"], "new"


def share(text: str) -> float:
    """Return the percentage that a text shows."""
    [number] = [words[-1] for words in (line.rpartition("%")[0].split() for line in text.splitlines()) if words][:1]
    return float(number)


# --- figures --------------------------------------------------------------------------------------------------


def figures(season: DrawnSeason, place: str, steps: list[dict[str, Any]]) -> dict[str, Any]:
    """Compare what was decided with whom the encounters show."""
    found = {one.name: one.individual for one in holdings_of(open_catalogue(place)).encounters}
    known = {name: whale for name, whale in season.whales.items() if whale in season.known}
    others = [name for name in season.whales if name not in known]
    seconds = [step["seconds"] for step in steps]
    return {
        "encounters": len(season.encounters),
        "photos": sum(map(len, season.encounters.values())),
        "pages": len(steps),
        "keys": sum(step["keys"] for step in steps),
        "keys_per_encounter": round(sum(step["keys"] for step in steps) / len(season.encounters), 2),
        "seconds_per_encounter": round(sum(seconds) / len(season.encounters), 2),
        "slowest_page_seconds": round(max(seconds), 2),
        "known": len(known),
        "known_right": sum(found[name] == whale for name, whale in known.items()),
        "others": len(others),
        "others_new": sum(found[name] is not None and found[name] not in season.known for name in others),
        "undecided": sum(found[name] is None for name in season.encounters),
    }


if __name__ == "__main__":
    main()
