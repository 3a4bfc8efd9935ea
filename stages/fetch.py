"""fetch: bring raw photos and tables into data/raw, from the profile's source."""

from flukeprint.core.console import exit_cleanly
from flukeprint.core.params import load_params
from flukeprint.core.paths import RAW
from flukeprint.data.sources import fetch

KEYS = ("profiles.*.source", "profiles.*.path", "fetch")


def main() -> None:
    """Run the stage."""
    params = load_params(KEYS)
    fetch(params.active.source, RAW, params.active.path, params.fetch.sample_seed)


if __name__ == "__main__":
    exit_cleanly(main)
