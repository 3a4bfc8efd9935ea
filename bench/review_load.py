"""Several reviewers at once, and the server killed meanwhile: `python -m bench.review_load --seconds 300 --kills 10`.

Each of 8 reviewers has a name and a session, and decides about encounters that all look at; a third of what was
saved is undone. The server is ended by SIGKILL and started again; between two of these one worker process is ended so,
if there are several (`--workers 2`), which the server replaces. What was answered "saved" must stand in the log in the
end, under the right name; the present state must follow from the log; of conflicts the second reviewer must have been
told.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path

from bench.review_rows import Server, Visit, generated
from flukeprint.catalogue.catalogues import Catalogue, open_catalogue
from flukeprint.catalogue.kept_state import disagreements
from flukeprint.catalogue.sightings import decisions_of
from flukeprint.review.reviewers import let_in

_ENCOUNTERS = 120  # that all look at


@dataclass
class Share:
    """What the reviewers did."""

    port: int
    saved: dict[int, tuple[str, str]] = field(default_factory=dict)  # number -> who, action
    told: Counter[str] = field(default_factory=Counter)
    stopped: threading.Event = field(default_factory=threading.Event)


def main() -> None:
    """Run the bench and print its figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--reviewers", type=int, default=8)
    parser.add_argument("--workers", type=int, default=1, help="processes that answer")
    parser.add_argument("--database", help="URL of an empty PostgreSQL database; without one SQLite is used")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        catalogue = generated(Path(folder) / "catalogue", 10 * _ENCOUNTERS, 100, arguments.database)
        options = ("--login", "--workers", str(arguments.workers))
        tokens = {f"reviewer {n}": let_in(catalogue, f"reviewer {n}", "decide", 1) for n in range(arguments.reviewers)}
        server = Server(catalogue.place, *options)
        share = Share(server.port)
        threads = [threading.Thread(target=reviewing, args=(share, *pair), daemon=True) for pair in tokens.items()]
        for thread in threads:
            thread.start()
        part = arguments.seconds / (arguments.kills + 1) / 2
        for _ in range(arguments.kills):
            time.sleep(part)
            server.kill_worker()
            time.sleep(part)
            server.kill()
            server = Server(catalogue.place, *options, port=share.port)
        time.sleep(2 * part)
        share.stopped.set()
        for thread in threads:
            thread.join(90)
        server.kill()
        asked = {"seconds": arguments.seconds, "kills": arguments.kills, "workers": arguments.workers}
        print(json.dumps(asked | found(catalogue, share), indent=2))


def reviewing(share: Share, name: str, token: str) -> None:
    """Decide until it is over; what the server does not answer is not counted as saved."""
    draw, visit = random.Random(name), Visit(share.port)
    while not share.stopped.is_set():
        try:
            if not logged_in(visit, token):
                share.told["not logged in"] += 1
            decide_one(share, visit, name, draw)
        except (OSError, HTTPException):
            share.told["not answered"] += 1
            time.sleep(0.2)
            visit = Visit(share.port, visit.cookie)


def logged_in(visit: Visit, token: str) -> bool:
    """Log in, unless the session still holds, as it does after the server was killed."""
    if visit.cookie and visit.get("/log").status == 200:
        return True
    page = visit.get("/login")
    return visit.post("/login", {"token": page.field("token"), "secret": token}).status == 303


def decide_one(share: Share, visit: Visit, name: str, draw: random.Random) -> None:
    """Look at an encounter for a moment, decide, and undo a third of what was saved."""
    encounter = 4 * _ENCOUNTERS + draw.randint(1, _ENCOUNTERS)
    page = visit.get(f"/encounters/{encounter}")
    time.sleep(draw.random() / 5)
    action = draw.choice(["confirm", "unsure", "reject"])
    fields = {key: page.field(key) for key in ("token", "seen", "individual")} | {"action": action}
    answer = visit.post(f"/encounters/{encounter}/decide", fields)
    share.told[{303: "saved", 409: "conflict"}.get(answer.status, f"status {answer.status}")] += 1
    if answer.status != 303:
        return
    number = int(answer.headers["location"].rpartition("=")[2])
    share.saved[number] = name, action
    if draw.random() < 1 / 3:
        undone = visit.post(f"/decisions/{number}/undo", {"token": fields["token"]})
        share.told[f"undo {undone.status}"] += 1
        if undone.status == 303:
            share.saved[int(undone.headers["location"].rpartition("=")[2])] = name, "undo"


def found(catalogue: Catalogue, share: Share) -> dict[str, object]:
    """Compare what was answered with what is in the log."""
    catalogue = open_catalogue(catalogue.place)
    log = {one.id: (one.who, one.action) for one in decisions_of(catalogue)}
    with catalogue.database.reading() as connection:
        wrong = disagreements(connection)
    return {
        "answered_saved": len(share.saved),
        "lost": sum(log.get(number) != what for number, what in share.saved.items()),
        "state_differs_from_log": len(wrong),
        "told": dict(sorted(share.told.items())),
    }


if __name__ == "__main__":
    main()
