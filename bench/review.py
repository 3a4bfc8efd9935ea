"""How quickly the review page answers with 100,000 photos: `python -m bench.review`.

Rows are generated (bench/review_rows.py). Printed are the seconds until the first page is answered after the command,
and the medians and 95th percentiles of pages and decisions, asked one after another over 127.0.0.1, and the server's
memory. Other work on the machine counts in these (`load` is the average number of processes that want a core), and not
in `cpu`, the milliseconds of a core that an answer takes.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from bench.review_rows import Answered, Server, Visit, generated


def main() -> None:
    """Run the bench and print its figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=int, default=100_000)
    parser.add_argument("--individuals", type=int, default=20_000)
    parser.add_argument("--times", type=int, default=100, help="how often each page is asked for")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "catalogue"
        generated(place, arguments.photos, arguments.individuals).database.engine.dispose()
        load = os.getloadavg()[0]
        server = Server(str(place))
        try:
            found = measured(server, arguments.photos, arguments.times)
        finally:
            server.kill()
    asked = {"of_photos": arguments.photos, "of_individuals": arguments.individuals, "load": load}
    print(json.dumps(asked | found, indent=2))


def measured(server: Server, photos: int, times: int) -> dict[str, object]:
    """Ask for every kind of page and decide."""
    visit, draw = Visit(server.port), random.Random(1)
    open_from, encounters = round(photos / 2 * 0.8) + 1, photos // 2
    some = [draw.randint(open_from, encounters) for _ in range(times)]
    kinds = ("sure", "new", "doubtful")
    pages = {
        "start": ["/"] * times,
        "queue": [f"/queue?kind={kinds[n % 3]}&page={1 + n % 60}" for n in range(times)],
        "candidates": [f"/encounters/{number}" for number in some],
        "individual": [f"/individuals/{draw.randint(1, 500)}" for _ in range(times)],
        "individuals": [f"/individuals?page={1 + n % 300}" for n in range(times)],
        "individuals_by_photos": [f"/individuals?order=photos&page={1 + n % 300}" for n in range(times)],
        "search": [f"/search?q=enc{number:06}" for number in some],
        "newest": ["/queue?newest=1"] * times,
        "log": [f"/log?before={draw.randint(2, encounters)}" for _ in range(times)],
        "log_of_one": ["/log?who=import"] * times,
        "photo_drawn": [f"/photos/{n + 1:064x}/large.jpg" for n in range(min(times, 30))],
        "photo_kept": [f"/photos/{n % 30 + 1:064x}/large.jpg" for n in range(times)],
    }
    found: dict[str, object] = {"start_seconds": round(server.start_seconds, 2)}
    found["start_cpu_seconds"] = round(server.processor_seconds(), 2)
    for name, paths in pages.items():
        before = server.processor_seconds()
        times_ = spread(checked(visit.get(path), 200).seconds for path in paths)
        found[name] = times_ | {"cpu": round(1000 * (server.processor_seconds() - before) / len(paths), 1)}
    found["decision"] = spread(decided(visit, number) for number in sorted(set(some)))
    found["memory_mib"] = round(server.memory())
    return found


def decided(visit: Visit, encounter: int) -> float:
    """Confirm an encounter's first candidate; return the seconds until it was saved."""
    page = visit.get(f"/encounters/{encounter}")
    fields = {name: page.field(name) for name in ("token", "seen", "individual")} | {"action": "confirm"}
    return checked(visit.post(f"/encounters/{encounter}/decide", fields), 303).seconds


def checked(answer: Answered, status: int) -> Answered:
    """Return an answer that is as it should be."""
    if answer.status != status:
        raise SystemExit(f"answered {answer.status}, not {status}: {answer.text[:2000]}")
    return answer


def spread(seconds: Iterable[float]) -> dict[str, float]:
    """Return the median, the 95th percentile and the largest, in milliseconds."""
    values = 1000 * np.array(list(seconds))
    return {name: round(float(np.quantile(values, q)), 1) for name, q in (("p50", 0.5), ("p95", 0.95), ("max", 1.0))}


if __name__ == "__main__":
    main()
