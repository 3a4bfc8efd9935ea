"""`python -m flukeprint.core.dvc_lock`: refuse a dvc.lock that DVC, killed while it wrote it, left empty or cut off."""

from pathlib import Path

import yaml

from flukeprint.core.console import exit_cleanly
from flukeprint.core.errors import FlukeprintError

LOCK = Path("dvc.lock")


def check_lock() -> None:
    """Refuse a dvc.lock that is no list of stages; say what brings it back. A project that has none is not run yet."""
    if not LOCK.exists():
        return
    try:
        content = yaml.load(LOCK.read_text(encoding="utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506
    except (yaml.YAMLError, UnicodeDecodeError):
        content = None
    if not isinstance(content, dict) or not isinstance(content.get("stages"), dict):
        raise FlukeprintError(
            f"{LOCK} is empty or cut off, as a kill while DVC writes it leaves it. Type `git checkout {LOCK}`, and run "
            "again: what had been done since is in DVC's cache and is not done again."
        )


if __name__ == "__main__":
    exit_cleanly(check_lock)
