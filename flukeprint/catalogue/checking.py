"""Whether a catalogue is whole: its state is that of its log, and its photos are there, unchanged."""

from __future__ import annotations

from tqdm import tqdm

from flukeprint.catalogue.catalogues import Catalogue
from flukeprint.catalogue.kept_state import disagreements
from flukeprint.catalogue.sightings import holdings_of
from flukeprint.core.errors import FlukeprintError
from flukeprint.core.files import sha256_of


def faults_of(catalogue: Catalogue) -> list[str]:
    """Say what is not as it should be."""
    with catalogue.database.reading() as connection:
        faults = list(disagreements(connection))
    for one in tqdm(holdings_of(catalogue).sightings, "photos", unit="photo", disable=None):
        try:
            if sha256_of(one.file) != one.sha256:
                faults.append(f"photo p{one.photo}: {one.file} is another file than was imported")
        except (OSError, FlukeprintError):
            faults.append(f"photo p{one.photo}: {one.file} is missing, or cannot be read")
    return faults
