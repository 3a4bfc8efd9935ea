"""Time the validation of a folder against a plain loop that decodes its photos with Pillow (the floor).

python -m bench.validation FOLDER [--workers 2] [--runs 3]

Both take turns, each in a process of its own, so that imports and the machine's mood are in both. On a machine that
others use as well, go by the ratio of CPU seconds: half of it is the least that 2 idle cores can reach in wall time.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

_FLOOR = """
import sys
from pathlib import Path
from PIL import Image
for part in ("train", "test"):
    for path in sorted(Path(sys.argv[1], part).iterdir()):
        with Image.open(path) as image:
            image.load()
"""


def main() -> None:
    """Read the command line, print one line per run and the median."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--runs", type=int, default=3)
    args = parser.parse_args()
    photos = sum(1 for part in ("train", "test") for _ in (args.folder / part).iterdir())
    ratios, rule_ratios, cpu_ratios = [], [], []
    print(f"{photos} photos, {args.workers} workers, {os.cpu_count()} cores")
    for _ in range(args.runs):
        floor, floor_cpu, _ = _timed(["-c", _FLOOR, str(args.folder)])
        with tempfile.TemporaryDirectory() as report:
            command = ["-m", "flukeprint.cli", "quality", str(args.folder), "--report", f"{report}/page"]
            took, cpu, peak = _timed([*command, "--workers", str(args.workers)])
        rules, _, _ = _timed(["-m", "flukeprint.cli", "quality", str(args.folder), "--workers", str(args.workers)])
        ratios.append(took / floor)
        rule_ratios.append(rules / floor)
        cpu_ratios.append(cpu / floor_cpu)
        print(
            f"floor {floor:.1f} s (CPU {floor_cpu:.1f} s, {photos / floor:.0f} photos/s); with report and all: "
            f"{took:.1f} s (CPU {cpu:.1f} s, {photos / took:.0f} photos/s, {peak:.0f} MiB); "
            f"ratio {took / floor:.2f}, of CPU {cpu / floor_cpu:.2f}; without the report {rules:.1f} s, "
            f"ratio {rules / floor:.2f}"
        )
    print(
        f"median ratio {statistics.median(ratios):.2f}, of CPU {statistics.median(cpu_ratios):.2f}, "
        f"without the report {statistics.median(rule_ratios):.2f}"
    )


def _timed(arguments: list[str]) -> tuple[float, float, float]:
    """Return (seconds, CPU seconds, peak of resident memory in MiB), the latter two with child processes."""
    start, cpu = time.perf_counter(), _cpu_of_children()
    process = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.DEVNULL)
    peak = 0.0
    while process.poll() is None:
        peak = max(peak, sum(map(_resident, _family(process.pid))))
        time.sleep(0.5)
    if process.returncode:
        sys.exit(f"{' '.join(arguments[:3])} ended with {process.returncode}")
    return time.perf_counter() - start, _cpu_of_children() - cpu, peak / 1024


def _cpu_of_children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _family(pid: int) -> list[int]:
    """Return a process and its descendants (on Linux)."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    except OSError:
        children = []
    return [pid, *(member for child in children for member in _family(int(child)))]


def _resident(pid: int) -> float:
    """Return the proportional resident memory in KiB: what processes share is counted once."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0.0
    return sum(float(line.split()[1]) for line in lines if line.startswith("Pss:"))


if __name__ == "__main__":
    main()
