"""A small season in a catalogue, and its pages asked as a browser does."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from catalogue_model import calibration, fake_model, import_folder, save_whales
from review_browser import Browser

from flukeprint.catalogue.catalogues import Catalogue, create_catalogue, open_catalogue
from flukeprint.catalogue.keypoint_matches import KeypointMatch, keep_matches
from flukeprint.catalogue.restriction import restriction
from flukeprint.catalogue.season import ask
from flukeprint.catalogue.sightings import holdings_of
from flukeprint.catalogue.vector_cache import known_model

pytest.importorskip("fastapi", reason="fastapi is not installed: pip install 'flukeprint[review]'")
pytest.importorskip("httpx", reason="httpx is not installed: pip install 'flukeprint[dev]'")

KNOWN = {f"w_{seed}/{seed}_{n}.jpg": (seed, n) for seed in range(6) for n in range(3)}
# Two encounters of whale 2 and one of whale 4; two of whale 50, whom nobody knows.
SEASON = {
    "e_known/a1.jpg": (2, 10), "e_known/a2.jpg": (2, 11), "e_again/b1.jpg": (2, 12), "e_four/g1.jpg": (4, 10),
    "e_new/c1.jpg": (50, 1), "e_new/c2.jpg": (50, 2), "e_new_again/d1.jpg": (50, 3),
}  # fmt: skip


@pytest.fixture(scope="session")
def season_folder(tmp_path_factory) -> Path:
    """A catalogue with a season that was asked, to be copied."""
    folder = tmp_path_factory.mktemp("review")
    save_whales(folder / "known", KNOWN)
    save_whales(folder / "season", SEASON)
    catalogue = create_catalogue(str(folder / "catalogue"))
    import_folder(catalogue, folder / "known")
    import_folder(catalogue, folder / "season", "encounters")
    model, everything = fake_model(calibration()), restriction(())
    ask(catalogue, model, known_model(catalogue, model), everything, everything)
    catalogue.database.engine.dispose()
    return folder / "catalogue"


@pytest.fixture
def catalogue(season_folder, tmp_path) -> Catalogue:
    shutil.copytree(season_folder, tmp_path / "catalogue")
    return open_catalogue(str(tmp_path / "catalogue"))


@pytest.fixture
def number(catalogue) -> Callable[[str], int]:
    """Return the number of the encounter of a name."""
    found = {one.name: one.id for one in holdings_of(catalogue).encounters}
    return lambda name: found[name]


@pytest.fixture
def keypoints(catalogue, number) -> tuple[str, str]:
    """Keep matched keypoints of the second photo of e_known and the last one of w_2; return what these are called."""
    sightings = holdings_of(catalogue).sightings
    photo = [one.photo for one in sightings if one.encounter == number("e_known")][1]
    other = [one.photo for one in sightings if one.individual == "w_2"][-1]
    lines = ((0.5, 0.5, 0.25, 0.5), (0.1, 0.2, 0.3, 0.4), (1.0, 1.0, 0.0, 0.0))
    with catalogue.database.writing() as connection:
        keep_matches(connection, [number("e_known")], [KeypointMatch(photo, other, 3, lines)])
    return f"p{photo}", f"p{other}"


@pytest.fixture
def browser(catalogue) -> Iterator[Browser]:
    made = Browser(catalogue)
    with made.client:
        yield made
