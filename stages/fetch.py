"""fetch: bring raw photos and tables into data/raw, from the profile's source."""

from pathlib import Path

from flukeprint.core.console import exit_cleanly
from flukeprint.core.params import load_params
from flukeprint.core.paths import RAW
from flukeprint.data.sources import fetch_folder, fetch_kaggle, fetch_sample

KEYS = ("profiles.*.source", "profiles.*.path", "fetch")


def main() -> None:
    """Run the stage."""
    params = load_params(KEYS)
    profile = params.active
    match profile.source:
        case "sample":
            fetch_sample(RAW, params.fetch.sample_seed)
        case "folder":
            fetch_folder(RAW, Path(profile.path or ""))
        case "kaggle":
            fetch_kaggle(RAW, profile.path or "")


if __name__ == "__main__":
    exit_cleanly(main)
