"""Darwin Core Archive (https://dwc.tdwg.org/text/): meta.xml, occurrence.txt with a row per occurrence, eml.xml.

An occurrence is one whale on one occasion (occurrences.py). Its occurrenceID follows from the SHA-256 of its first
photo, so it stays the same in later exports and is nobody else's. Encounters of nobody known are occurrences without an
organismID.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from xml.sax.saxutils import escape, quoteattr

from flukeprint.catalogue.exported_files import add_member, new_archive
from flukeprint.catalogue.occurrences import Occurrence, occurrences_of
from flukeprint.catalogue.positions import Precision
from flukeprint.catalogue.sightings import LoggedDecision, Sighting
from flukeprint.core.safe_text import printable

Licence = Literal["cc0", "cc-by", "cc-by-nc"]
# Those that GBIF takes: address, and name as in eml.xml.
LICENCES: Mapping[str, tuple[str, str]] = {
    "cc0": ("http://creativecommons.org/publicdomain/zero/1.0/legalcode", "Public Domain (CC0 1.0)"),
    "cc-by": ("http://creativecommons.org/licenses/by/4.0/legalcode", "Creative Commons Attribution (CC-BY) 4.0"),
    "cc-by-nc": (
        "http://creativecommons.org/licenses/by-nc/4.0/legalcode",
        "Creative Commons Attribution Non Commercial (CC-BY-NC) 4.0",
    ),
}
_DWC = "http://rs.tdwg.org/dwc/terms/"
# Terms of Darwin Core, and one of Dublin Core, in the order of the columns.
TERMS = (
    "occurrenceID", "basisOfRecord", "occurrenceStatus", "scientificName", "kingdom", "individualCount", "organismID",
    "organismName", "eventID", "eventDate", "year", "month", "day", "locality", "decimalLatitude", "decimalLongitude",
    "geodeticDatum", "coordinateUncertaintyInMeters", "dataGeneralizations", "recordedBy", "identifiedBy",
    "dateIdentified", "identificationVerificationStatus", "occurrenceRemarks", "license",
)  # fmt: skip
_DUBLIN_CORE = {"license": "http://purl.org/dc/terms/license"}
_DECIDES = ("new", "confirm", "split")


@dataclass(frozen=True)
class DataSet:
    """What a publisher says of the data set."""

    title: str
    creator: str
    species: str
    licence: Licence | None = None


def write_darwin_core(
    path: Path,
    sightings: Sequence[Sighting],
    log: Sequence[LoggedDecision],
    data_set: DataSet,
    precision: Precision | None,
) -> int:
    """Write the archive; return how many occurrences it has. `precision` says how exact the positions are."""
    deciders = _deciders(log)
    rows = [_row(one, data_set, precision, deciders) for one in occurrences_of(sightings)]
    lines = ["\t".join(TERMS), *("\t".join(_text(row.get(term)) for term in TERMS) for row in rows)]
    table = ("\n".join(lines) + "\n").encode()
    with new_archive(path) as archive:
        add_member(archive, "meta.xml", _meta())
        add_member(archive, "occurrence.txt", table)
        add_member(archive, "eml.xml", _eml(data_set, table, log))
    return len(rows)


def _text(value: Any) -> str:
    """Return a cell on one line, without tabs: the table has no quotes."""
    return "" if value is None else printable(" ".join(str(value).split()))


def _deciders(log: Iterable[LoggedDecision]) -> dict[str, LoggedDecision]:
    """Return the last decision that says whom each photo (p7) and encounter (e12) shows."""
    kept = [one for one in log if one.holds and one.action in _DECIDES]
    return {f"e{one.encounter}" if one.photo is None else f"p{one.photo}": one for one in kept}


def _row(
    one: Occurrence, data_set: DataSet, precision: Precision | None, deciders: Mapping[str, LoggedDecision]
) -> dict[str, Any]:
    first, when = one.first, one.when or ""
    date = when[:10].split("-") if when else []
    row: dict[str, Any] = {
        "occurrenceID": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, first.sha256)}",
        "basisOfRecord": "HumanObservation",
        "occurrenceStatus": "present",
        "scientificName": data_set.species,
        "kingdom": "Animalia",
        "individualCount": 1,
        "organismID": first.individual,
        "organismName": first.individual_name,
        "eventID": f"e{first.encounter}",
        "eventDate": when,
        "locality": first.place,
        "recordedBy": " | ".join(one.photographers),
        "identificationVerificationStatus": first.status,
        "occurrenceRemarks": first.notes,
        "license": LICENCES[data_set.licence][0] if data_set.licence else None,
    }
    row |= {name: int(part) for name, part in zip(("year", "month", "day"), date, strict=False)}
    decision = deciders.get(f"p{first.photo}") or deciders.get(f"e{first.encounter}")
    if first.individual is not None and decision is not None:
        row |= {"identifiedBy": decision.who, "dateIdentified": decision.at[:10]}
    return row | _position(one, precision)


def _position(one: Occurrence, precision: Precision | None) -> dict[str, Any]:
    if one.position is None:
        return {}
    latitude, longitude = one.position
    said = {"decimalLatitude": latitude, "decimalLongitude": longitude, "geodeticDatum": "EPSG:4326"}
    if precision is None:
        return said
    return said | {
        "coordinateUncertaintyInMeters": precision.uncertainty(latitude),
        "dataGeneralizations": f"positions are centres of cells of {precision.said}",
    }


def _meta() -> bytes:
    columns = "\n".join(
        f'    <field index="{index}" term="{_DUBLIN_CORE.get(term, _DWC + term)}"/>' for index, term in enumerate(TERMS)
    )
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<archive xmlns="http://rs.tdwg.org/dwc/text/" metadata="eml.xml">
  <core encoding="UTF-8" fieldsTerminatedBy="\\t" linesTerminatedBy="\\n" fieldsEnclosedBy="" ignoreHeaderLines="1" \
rowType="{_DWC}Occurrence">
    <files>
      <location>occurrence.txt</location>
    </files>
    <id index="0"/>
{columns}
  </core>
</archive>
""".encode()


def _eml(data_set: DataSet, table: bytes, log: Sequence[LoggedDecision]) -> bytes:
    """Return the description of the data set (EML 2.2.0). It is as old as the last decision."""
    package = uuid.uuid5(uuid.NAMESPACE_OID, hashlib.sha256(table).hexdigest())
    published = max((one.at[:10] for one in log), default=None)
    date = f"\n    <pubDate>{published}</pubDate>" if published else ""
    creator = f"<individualName><surName>{escape(printable(data_set.creator))}</surName></individualName>"
    rights = ""
    if data_set.licence:
        address, name = LICENCES[data_set.licence]
        link = f"<ulink url={quoteattr(address)}><citetitle>{escape(name)} License</citetitle></ulink>"
        rights = f"\n    <intellectualRights><para>This work is licensed under a {link}.</para></intellectualRights>"
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<eml:eml xmlns:eml="https://eml.ecoinformatics.org/eml-2.2.0" packageId="{package}" system="flukeprint" \
scope="system" xml:lang="en">
  <dataset>
    <title>{escape(printable(data_set.title))}</title>
    <creator>{creator}</creator>{date}
    <language>en</language>
    <abstract><para>Photo-identified individuals of {escape(printable(data_set.species))}.</para></abstract>{rights}
    <contact>{creator}</contact>
  </dataset>
</eml:eml>
""".encode()
