"""What an import does or would do, in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from flukeprint.catalogue.catalogues import command
from flukeprint.catalogue.import_plan import PlannedPhoto
from flukeprint.catalogue.importing import Imported
from flukeprint.catalogue.second_names import second_name_lines
from flukeprint.catalogue.source_rows import Source
from flukeprint.core.safe_text import printable
from flukeprint.core.wording import counted

_SAYS = {"new": "will be added", "known": "is there already", "twice": "is there twice", "refused": "refused"}
_MOST = 10  # pictures under two ids that are named one by one


def plan_text(source: Source, plan: Sequence[PlannedPhoto]) -> str:
    """Say row by row what would happen."""
    lines = [printable(remark) for remark in source.remarks]
    for photo in plan:
        facts = [
            photo.identity or "nobody named", f"encounter {photo.encounter_name!r}", photo.taken_at,
            None if photo.row.place is None else photo.row.place,
        ]  # fmt: skip
        told = f" ({', '.join(fact for fact in facts if fact)})" if photo.verdict == "new" else ""
        lines.append(printable(f"{photo.row.where}: {_SAYS[photo.verdict]}{told}{_because(photo.why)}"))
    return "\n".join([*lines, *_counts(plan)])


def _because(why: str | None) -> str:
    return f": {why}" if why else ""


def _counts(plan: Sequence[PlannedPhoto]) -> list[str]:
    verdicts = [photo.verdict for photo in plan]
    counts = ", ".join(f"{verdicts.count(name)} {says}" for name, says in _SAYS.items() if name in verdicts)
    return [f"{counted(len(plan), 'row')}: {counts}. Nothing was changed."]


def done_text(source: Source, plan: Sequence[PlannedPhoto], done: Imported, place: str) -> str:
    """Say what was done, and of every row that was left out, or is odd, why; `place` is the catalogue's."""
    lines = [printable(remark) for remark in source.remarks]
    lines += [f"! {printable(line)}" for line in _odd(plan)]
    lines += [f"! {printable(f'{photo.row.where}: refused: {why}')}" for photo, why in done.refused]
    lines += [f"! {line}" for line in second_name_lines(done.second_names[:_MOST], place)]
    if len(done.second_names) > _MOST:
        lines.append(f"! and {len(done.second_names) - _MOST} more; `{command(place, 'audit')}` names them")
    lines += _named_otherwise(done, place)
    if done.flags:
        odd = ", ".join(f"{rule} {count}" for rule, count in sorted(done.flags.items()))
        lines.append(f"! odd photos: {odd} (`show` marks them, `--only flags=none` leaves them out)")
    known = sum(photo.verdict == "known" for photo in plan)
    already = f"; {known} were there already" if known else ""
    already += f", {done.moved} of them in another place" if done.moved else ""
    lines.append(
        f"{counted(done.photos, 'photo')} added, in {counted(done.encounters, 'new encounter')}; "
        f"{counted(len(done.individuals), 'new individual')}{already}; {left_out(plan, done)} left out."
    )
    return "\n".join(lines)


def _odd(plan: Sequence[PlannedPhoto]) -> Iterator[str]:
    for photo in plan:
        if photo.why is not None:
            yield f"{photo.row.where}: {_SAYS[photo.verdict] + ': ' if photo.verdict != 'new' else ''}{photo.why}"


def _named_otherwise(done: Imported, place: str) -> Iterator[str]:
    found = done.named_otherwise
    for one in found[:_MOST]:
        yield f"! p{one.photo} of {one.id} is nearly the same picture as p{one.other} of {one.other_id}"
    if len(found) > _MOST:
        yield f"! and {len(found) - _MOST} more; `{command(place, 'audit')}` names such individuals"


def left_out(plan: Sequence[PlannedPhoto], done: Imported) -> int:
    """Return how many rows could not be taken; a second copy of a file is nothing lost."""
    return sum(photo.verdict == "refused" for photo in plan) + len(done.refused)
