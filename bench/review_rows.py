"""A catalogue of generated rows for benches of the review page: many photos, of which one file is behind them all."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPException
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import numpy as np
from PIL import Image
from sqlalchemy import Connection, insert, text

from flukeprint.catalogue.catalogues import Catalogue, create_catalogue
from flukeprint.catalogue.entities import (
    IMPORT_NOTE,
    AnswerRow,
    DecisionRow,
    DecisionStateRow,
    EncounterRow,
    EncounterStateRow,
    IndividualRow,
    IndividualStateRow,
    ModelRow,
    PhotoRow,
    PhotoStateRow,
    VectorRow,
)

SIDES = (1050, 700)  # px of the photo, as the competition's larger ones
DIMENSIONS = 256
_PHOTOS = 2  # of an encounter
_OPEN = 0.2  # share of encounters of nobody known
_CANDIDATES = 20
_AT = "2026-01-01T00:00:00+00:00"


def generated(folder: Path, photos: int, individuals: int, database: str | None = None) -> Catalogue:
    """Make a catalogue: a fifth of the encounters are asked and open, the others show the individuals evenly.

    `database` is the URL of an empty PostgreSQL database; without one all is in `folder`.
    """
    folder.mkdir()
    catalogue = create_catalogue(database or str(folder), folder if database else None)
    picture = folder / "photo.jpg"
    noise = np.random.default_rng(0).integers(0, 256, (SIDES[1] // 10, SIDES[0] // 10, 3), np.uint8)
    Image.fromarray(noise).resize(SIDES, Image.Resampling.BICUBIC).save(picture, quality=90)
    encounters = photos // _PHOTOS
    decided = round(encounters * (1 - _OPEN))
    with catalogue.database.writing() as connection:
        connection.execute(insert(ModelRow).values(id=1, fingerprint="0" * 64, provenance="{}"))
        _insert(connection, IndividualRow, ({"key": n, "first_id": f"w_{n:06}"} for n in range(1, individuals + 1)))
        _insert(connection, IndividualStateRow, ({"key": n, "id": f"w_{n:06}"} for n in range(1, individuals + 1)))
        _insert(connection, EncounterRow, map(_encounter, range(1, encounters + 1)))
        whom = {n: (n % individuals) + 1 if n <= decided else None for n in range(1, encounters + 1)}
        _insert(connection, DecisionRow, (_decision(n, whom[n]) for n in range(1, decided + 1)))
        _insert(connection, DecisionStateRow, ({"decision_id": n, "holds": True} for n in range(1, decided + 1)))
        states = (_state(whom[n]) | {"encounter_id": n, "version": n if whom[n] else 0} for n in whom)
        _insert(connection, EncounterStateRow, states)
        numbers = range(1, encounters * _PHOTOS + 1)
        _insert(connection, PhotoRow, (_photo(n, picture) for n in numbers))
        _insert(connection, PhotoStateRow, (_state(whom[(n + 1) // _PHOTOS]) | {"photo_id": n} for n in numbers))
        _insert(connection, VectorRow, _vectors(numbers))
        draw = random.Random(0)
        _insert(connection, AnswerRow, (_answer(n, individuals, draw) for n in range(decided + 1, encounters + 1)))
        if database:
            _count_on(connection)
    return catalogue


def _count_on(connection: Connection) -> None:
    """Have PostgreSQL number the rows that come from where these end."""
    for table, key in (("decisions", "id"), ("individuals", "key"), ("encounters", "id"), ("photos", "id")):
        last = f"SELECT setval(pg_get_serial_sequence('{table}', '{key}'), max({key})) FROM {table}"  # noqa: S608
        connection.execute(text(last))


def _insert(connection: Connection, table: Any, rows: Any) -> None:
    left = iter(rows)
    while batch := list(islice(left, 2000)):
        connection.execute(insert(table), batch)


def _encounter(number: int) -> dict[str, Any]:
    year, name = 2010 + number % 16, f"enc{number:06}"
    key, day = json.dumps(["encounter", f"/photos/{year}", name, None]), f"{year}-07-{1 + number % 28:02}"
    return {"id": number, "key": key, "name": name, "date": day, "place": f"Bay {number % 300}"}


def _decision(number: int, individual: int | None) -> dict[str, Any]:
    of_what = {"id": number, "encounter_id": number, "individual": individual}
    return of_what | {"at": _AT, "who": "import", "action": "confirm", "seen": 0, "note": IMPORT_NOTE}


def _state(individual: int | None) -> dict[str, Any]:
    return {"status": "open" if individual is None else "confirmed", "individual": individual, "rejected": "[]"}


def _photo(number: int, picture: Path) -> dict[str, Any]:
    position = {"latitude": -43 + number % 1000 / 1000, "longitude": 173 + number % 777 / 777}
    return position | {
        "id": number, "sha256": f"{number:064x}", "name": f"{number:08}.jpg", "path": str(picture), "size": 1,
        "width": SIDES[0], "height": SIDES[1], "taken_at": _AT[:19], "photographer": "Ann", "flags": "",
        "phash": "0" * 16, "thumbnail": bytes(1024), "encounter_id": (number + 1) // _PHOTOS,
    }  # fmt: skip


def _vectors(numbers: range) -> Iterator[dict[str, Any]]:
    rng = np.random.default_rng(1)
    for number in numbers:
        vector = rng.standard_normal(DIMENSIONS).astype("<f4")
        yield {"model_id": 1, "photo_id": number, "vector": (vector / np.linalg.norm(vector)).tobytes()}


def _answer(encounter: int, individuals: int, draw: random.Random) -> dict[str, Any]:
    chances = sorted((draw.random() ** 6 for _ in range(_CANDIDATES)), reverse=True)
    ids = draw.sample(range(1, individuals + 1), min(_CANDIDATES, individuals))
    named = [
        {"id": f"w_{key:06}", "probability": round(chance / 3, 6), "beyond_calibration": None, "similarity": chance}
        for key, chance in zip(ids, chances, strict=False)
    ]
    content: dict[str, Any] = {
        "encounters": [encounter],
        "one_whale": None,
        "new_probability": 0.3,
        "beyond_calibration": None,
    }
    content |= {"near_duplicates": [], "candidates": named}
    row = {"encounter_id": encounter, "model_id": 1, "content": json.dumps(content)}
    return row | {"worth": encounter % 3, "certainty": draw.random()}


# --- the server and a browser -------------------------------------------------------------------------------------


class Server:
    """`flukeprint review` as a process."""

    def __init__(self, place: str, *options: str, port: int = 0) -> None:
        command = [sys.executable, "-m", "flukeprint.cli", "review", place, "--port", str(port), *options]
        environment = os.environ | {"PYTHONUNBUFFERED": "1", "FLUKEPRINT_WHO": "bench"}
        started = time.perf_counter()
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env=environment, start_new_session=True
        )
        line = self.process.stdout.readline() if self.process.stdout else ""
        self.port = int(re.findall(r":(\d+)/", line)[0])
        while not self._answers():
            time.sleep(0.02)
        self.start_seconds = time.perf_counter() - started

    def _answers(self) -> bool:
        try:
            return Visit(self.port).get("/").status in (200, 303)  # 303: to the login
        except (OSError, HTTPException):
            return False

    def memory(self) -> float:
        """Return the largest resident memory so far in MiB."""
        text = Path(f"/proc/{self.process.pid}/status").read_text(encoding="utf-8")
        return int(re.findall(r"VmHWM:\s+(\d+)", text)[0]) / 1024

    def processor_seconds(self) -> float:
        """Return the processor time so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")

    def kill(self) -> None:
        """End it at once with all of its workers, as a power cut would."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def kill_worker(self) -> None:
        """End one of its workers at once; without workers, do nothing."""
        text = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text(encoding="utf-8")
        for pid in text.split()[-1:]:
            os.kill(int(pid), signal.SIGKILL)


class Answered:
    """What a server said."""

    def __init__(self, status: int, headers: dict[str, str], text: str, seconds: float) -> None:
        self.status, self.headers, self.text, self.seconds = status, headers, text, seconds

    def field(self, name: str) -> str:
        """Return the value of a form's field."""
        return str(re.findall(rf'name="{name}" value="([^"]*)"', self.text)[0])


class Visit:
    """A browser's connection to the server, with its cookie."""

    def __init__(self, port: int, cookie: str = "") -> None:
        self.port, self.cookie = port, cookie
        self._connection = HTTPConnection("127.0.0.1", port, timeout=60)

    def get(self, path: str) -> Answered:
        """Ask for a page."""
        return self._asked("GET", path, None)

    def post(self, path: str, fields: dict[str, str]) -> Answered:
        """Send a form."""
        return self._asked("POST", path, urlencode(fields))

    def _asked(self, method: str, path: str, body: str | None) -> Answered:
        headers = {"Cookie": self.cookie} if self.cookie else {}
        if body is not None:
            headers |= {"Content-Type": "application/x-www-form-urlencoded", "Origin": f"http://127.0.0.1:{self.port}"}
        started = time.perf_counter()
        self._connection.request(method, path, body, headers)
        answer = self._connection.getresponse()
        text = answer.read().decode("utf-8", "replace")
        seconds = time.perf_counter() - started
        found = dict(answer.getheaders())
        if "set-cookie" in found:
            self.cookie = found["set-cookie"].partition(";")[0]
        return Answered(answer.status, found, text, seconds)
