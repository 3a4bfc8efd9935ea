"""Receipts of the members' files: small, in git, and what a stage that reads all members depends on.

DVC cannot list a changing number of members among a stage's deps. Their common folder would not do instead: it keeps
the files of members that are gone, and holds only some in a clone that has not pulled the others. A receipt changes
when a file that it names does, or when another runtime made it, and git has all of them.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from flukeprint.core.errors import FlukeprintError
from flukeprint.core.files import read_json, sha256_of, write_json
from flukeprint.core.paths import RECEIPTS


def write_receipt(member: str, outputs: Iterable[Path], runtime: Mapping[str, Any] | None = None) -> None:
    """Write the SHA-256 of a member's outputs (files, or folders of files) to `metrics/embed/<member>.json`.

    With it goes `runtime`, what embedded the photos (core/runtime.py), where that is known.
    """
    sums = {path.as_posix(): digest_of(path) for path in outputs}
    write_json(_receipt(member), {"sha256": sums} if runtime is None else {"sha256": sums, "runtime": dict(runtime)})


def require_members(members: Iterable[str], folder: Path) -> None:
    """Make sure that every member's output in `folder` is the one that its receipt names; pull those that are missing.

    Receipts of other members are removed first: they would count as inputs of the stage that calls this.
    """
    keep_members(RECEIPTS, members)
    receipts = [read_json(_receipt(member))["sha256"] for member in members]
    named = {Path(name): digest for receipt in receipts for name, digest in receipt.items()}
    require_outputs({path: digest for path, digest in named.items() if path.parent == folder}, RECEIPTS)


def require_outputs(named: Mapping[Path, str], receipt: Path) -> None:
    """Make sure that files, or folders of files, have the SHA-256 that `receipt` names; pull those that are missing."""
    if missing := [str(path) for path in named if not path.exists()]:
        # As `dvc repro --pull` does for deps; what cannot be pulled stays missing.
        subprocess.run([sys.executable, "-m", "dvc", "pull", "--quiet", *missing], check=False)  # noqa: S603
    for path, digest in named.items():
        if not path.exists():
            raise FlukeprintError(f"{path} is missing, and DVC could not pull it. Run `dvc repro`, or name a remote.")
        if digest_of(path) != digest:
            raise FlukeprintError(f"{path} is not what {receipt} says of it. Run `dvc repro` without --single-item.")


def keep_members(folder: Path, members: Iterable[str]) -> None:
    """Remove the JSON files of other members from a folder that a stage depends on."""
    for path in set(folder.glob("*.json")) - {folder / f"{member}.json" for member in members}:
        path.unlink()


def digest_of(path: Path) -> str:
    """Return the hex SHA-256 of a file, or of the files of a folder in the order of their names."""
    return sha256_of(*sorted(path.iterdir())) if path.is_dir() else sha256_of(path)


def _receipt(member: str) -> Path:
    return RECEIPTS / f"{member}.json"
