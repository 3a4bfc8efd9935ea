"""A program that is killed at any moment leaves nothing half done, and no decision that was said to be saved is lost.

FLUKEPRINT_KILLS=200 asks for more kills than a run of the suite has.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from catalogue_model import import_folder, save_whales
from catalogue_rows import add_encounter

from flukeprint.catalogue.catalogues import create_catalogue, open_catalogue
from flukeprint.catalogue.checking import faults_of
from flukeprint.catalogue.kept_state import disagreements
from flukeprint.catalogue.sightings import decisions_of, holdings_of
from flukeprint.catalogue.vector_cache import read_vectors

KILLS = int(os.environ.get("FLUKEPRINT_KILLS", "5"))
TESTS = Path(__file__).parents[1]
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent)]), "OMP_NUM_THREADS": "1"}

IMPORT = """
import sys
from pathlib import Path
import flukeprint.catalogue.importing as importing
from catalogue_model import import_folder
from flukeprint.catalogue.catalogues import open_catalogue
importing._BATCH = 1
save = importing.Import._save
importing.Import._save = lambda *arguments: (save(*arguments), print("saved", flush=True))
opened = open_catalogue(sys.argv[1])
print("ready", flush=True)
import_folder(opened, Path(sys.argv[2]))
"""
DECIDE = """
import sys
from flukeprint.catalogue.catalogues import open_catalogue
from flukeprint.catalogue.deciding import Wish, decide
opened = open_catalogue(sys.argv[1])
print("ready", flush=True)
for number in range(10_000):
    wishes = [Wish("new", encounter=number % 3 + 1, individual=f"w_{sys.argv[2]}_{number}", seen=None),
              Wish("unsure", photo=100 * (number % 3 + 1), seen=None)]
    print("saved", *decide(opened, wishes, "ann"), flush=True)
"""


def killed(code: str, *arguments: object, lines: int, after: float) -> list[str]:
    """Run a program; kill it so many seconds after it said so many lines; return what it said."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT) as program:
        assert program.stdout.readline() == "ready\n"
        said = [program.stdout.readline() for _ in range(lines)]
        time.sleep(after)
        program.send_signal(signal.SIGKILL)
        return [*said, *program.stdout.read().splitlines()]


def seen(place: str) -> tuple:
    """Return all that an import makes, but for times."""
    opened = open_catalogue(place)
    holdings = holdings_of(opened)
    log = [(one.id, one.action, one.encounter, one.individual) for one in decisions_of(opened)]
    with opened.database.reading() as connection:
        assert disagreements(connection) == []
        vectors = read_vectors(connection, 1)[1].tobytes()
    sightings = [(one.photo, one.sha256, one.encounter_name, one.individual) for one in holdings.sightings]
    return sightings, holdings.encounters, holdings.individuals, log, vectors


def test_an_import_that_is_killed_is_finished_by_the_next_one_and_nothing_is_there_twice(tmp_path):
    source = save_whales(tmp_path / "known", {f"w_{n % 5}/e{n % 7}/{n}.jpg": (n % 5, n) for n in range(150)})
    whole = create_catalogue(str(tmp_path / "whole")).place
    import_folder(open_catalogue(whole), source)
    expected, chance, half_way = seen(whole), random.Random(15), 0
    place = create_catalogue(str(tmp_path / "killed 0")).place
    for number in range(1, KILLS + 1):
        # A batch is 32 photos, so there are five, and fewer each time.
        killed(IMPORT, place, source, lines=chance.randrange(3), after=chance.uniform(0, 0.1))
        there = len(holdings_of(open_catalogue(place)).sightings)
        half_way += 0 < there < 150
        if there == 150 or number == KILLS:
            import_folder(open_catalogue(place), source)
            assert seen(place) == expected
            assert faults_of(open_catalogue(place)) == []
            place = create_catalogue(str(tmp_path / f"killed {number}")).place
    assert half_way > 0


def test_no_decision_that_was_said_to_be_saved_is_lost_and_none_is_half_done(place, tmp_path):
    opened = create_catalogue(place, tmp_path / "photos" if "://" in place else None)
    with opened.database.writing() as connection:
        for encounter in (1, 2, 3):
            add_encounter(connection, encounter, 1)
    chance, saved = random.Random(15), set()
    for number in range(KILLS):
        said = killed(DECIDE, place, number, lines=chance.randrange(3), after=chance.uniform(0, 0.1))
        saved |= {int(word) for line in said for word in line.split()[1:]}
    log = decisions_of(opened)
    assert saved <= {one.id for one in log}
    assert saved
    # Two at once: both or none.
    assert sum(one.action == "new" for one in log) == sum(one.action == "unsure" for one in log)
    with opened.database.reading() as connection:
        assert disagreements(connection) == []
