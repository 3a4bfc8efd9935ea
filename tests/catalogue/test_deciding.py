"""Decisions: what each one means, that any of them can be undone, that none is lost, and who is told of conflicts."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
from catalogue_rows import add_encounter
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from flukeprint.catalogue.catalogues import Catalogue, create_catalogue, open_catalogue
from flukeprint.catalogue.deciding import ConflictError, Wish, decide, save
from flukeprint.catalogue.entities import DecisionRow
from flukeprint.catalogue.kept_state import disagreements, kept
from flukeprint.catalogue.sightings import decisions_of, holdings_of
from flukeprint.core.errors import FlukeprintError


@pytest.fixture
def filled(catalogue) -> Catalogue:
    """Encounters 1, 2, 3 of two photos each: 100, 101; 200, 201; 300, 301."""
    with catalogue.database.writing() as connection:
        for encounter in (1, 2, 3):
            add_encounter(connection, encounter, 2)
    return catalogue


def say(catalogue: Catalogue, action: str, *, seen: int | None = None, who: str = "ann", **wish) -> int:
    [number] = decide(catalogue, [Wish(action, seen=seen, **wish)], who)
    with catalogue.database.reading() as connection:
        assert disagreements(connection) == []
    return number


def undo(catalogue: Catalogue, number: int) -> int:
    return say(catalogue, "undo", undoes=number)


def shown(catalogue: Catalogue) -> dict[int, str | None]:
    return {one.photo: one.individual for one in holdings_of(catalogue).sightings}


def statuses(catalogue: Catalogue) -> dict[int, str]:
    return {one.photo: one.status for one in holdings_of(catalogue).sightings}


# --- what decisions mean -----------------------------------------------------------------------------------


def test_an_encounter_is_decided_as_a_whole_and_a_photo_goes_before_it(filled):
    say(filled, "new", encounter=1, individual="w_a")
    assert shown(filled) == {100: "w_a", 101: "w_a", 200: None, 201: None, 300: None, 301: None}
    say(filled, "new", photo=101, individual="w_b")
    say(filled, "confirm", encounter=1, individual="w_a")
    assert shown(filled)[100] == "w_a"
    assert shown(filled)[101] == "w_b"


def test_unsure_and_reject_open_what_was_confirmed_and_keep_who_it_is_not(filled):
    say(filled, "new", encounter=1, individual="w_a")
    say(filled, "confirm", encounter=2, individual="w_a")
    say(filled, "unsure", encounter=1)
    say(filled, "reject", encounter=2, individual="w_a")
    assert statuses(filled) == {100: "unsure", 101: "unsure"} | dict.fromkeys((200, 201, 300, 301), "open")
    assert [sorted(one.rejected) for one in holdings_of(filled).encounters] == [[], ["w_a"], []]
    say(filled, "confirm", encounter=2, individual="w_a")
    assert [sorted(one.rejected) for one in holdings_of(filled).encounters] == [[], [], []]


def test_a_photo_that_does_not_show_its_encounters_whale_is_open(filled):
    say(filled, "reject", photo=100, individual=_new(filled, 3, "w_a"))
    say(filled, "confirm", encounter=1, individual="w_a")
    assert shown(filled)[100] is None
    assert shown(filled)[101] == "w_a"


def _new(catalogue: Catalogue, encounter: int, name: str) -> str:
    say(catalogue, "new", encounter=encounter, individual=name)
    return name


def test_a_merge_joins_two_individuals_under_one_id_and_its_undo_parts_them_again(filled):
    _new(filled, 1, "w_a"), _new(filled, 2, "w_b"), _new(filled, 3, "w_c")
    first = say(filled, "merge", individual="w_b", other="w_a")
    say(filled, "merge", individual="w_a", other="w_c")
    assert set(shown(filled).values()) == {"w_c"}
    [individual] = holdings_of(filled).individuals
    assert (individual.id, individual.merged, individual.photos) == ("w_c", ("w_a", "w_b"), 6)
    undo(filled, first)
    assert [shown(filled)[photo] for photo in (100, 200, 300)] == ["w_c", "w_b", "w_c"]


def test_what_is_confirmed_as_a_merged_individual_shows_whom_it_is(filled):
    _new(filled, 1, "w_a"), _new(filled, 2, "w_b")
    say(filled, "merge", individual="w_b", other="w_a")
    say(filled, "confirm", encounter=3, individual="w_b")
    assert shown(filled)[300] == "w_a"


def test_a_rejection_under_a_merge_opens_it_and_holds_after_the_merge_is_undone(filled):
    _new(filled, 1, "w_a"), _new(filled, 2, "w_b")
    merge = say(filled, "merge", individual="w_b", other="w_a")
    say(filled, "reject", encounter=2, individual="w_a")
    assert shown(filled)[200] is None
    undo(filled, merge)
    assert shown(filled)[200] is None


def test_a_split_takes_photos_out_of_an_individual_and_is_undone(filled):
    _new(filled, 1, "w_a")
    say(filled, "confirm", encounter=2, individual="w_a")
    wishes = [Wish("split", encounter=2, other="w_a", individual="w_b", seen=None),
              Wish("split", photo=101, other="w_a", individual="w_b", seen=None)]  # fmt: skip
    numbers = decide(filled, wishes, "ann")
    assert [shown(filled)[photo] for photo in (100, 101, 200)] == ["w_a", "w_b", "w_b"]
    for number in reversed(numbers):
        undo(filled, number)
    assert [shown(filled)[photo] for photo in (100, 101, 200)] == ["w_a", "w_a", "w_a"]


def test_a_rename_changes_the_id_everywhere_and_its_undo_brings_it_back(filled):
    _new(filled, 1, "w_a")
    number = say(filled, "rename", individual="w_a", new_id="w_z", new_name="Zoë")
    assert shown(filled)[100] == "w_z"
    undo(filled, number)
    [individual] = holdings_of(filled).individuals
    assert (individual.id, individual.name) == ("w_a", None)


def test_an_undo_is_undone(filled):
    number = say(filled, "new", encounter=1, individual="w_a")
    back = undo(filled, number)
    assert shown(filled)[100] is None
    again = undo(filled, back)
    assert shown(filled)[100] == "w_a"
    undo(filled, again)
    assert shown(filled)[100] is None
    assert [one.holds for one in decisions_of(filled)] == [False, True, False, True]


def test_an_id_whose_introduction_was_undone_can_be_used_again(filled):
    undo(filled, say(filled, "new", encounter=1, individual="w_a"))
    say(filled, "new", encounter=2, individual="w_a")
    assert shown(filled)[200] == "w_a"


# --- what is refused ---------------------------------------------------------------------------------------


REFUSED = {
    "an id that is taken": {"action": "new", "encounter": 3, "individual": "w_a"},
    "an id that was merged": {"action": "new", "encounter": 3, "individual": "w_c"},
    "a forbidden id": {"action": "new", "encounter": 3, "individual": "new_whale"},
    "an id with a blank": {"action": "new", "encounter": 3, "individual": "w a"},
    "an unknown individual": {"action": "confirm", "encounter": 3, "individual": "w_x"},
    "an unknown encounter": {"action": "confirm", "encounter": 9, "individual": "w_a"},
    "an unknown photo": {"action": "unsure", "photo": 999},
    "nothing to decide about": {"action": "unsure"},
    "a merge with itself": {"action": "merge", "individual": "w_a", "other": "w_a"},
    "a merge that was made": {"action": "merge", "individual": "w_c", "other": "w_b"},
    "a merge of one that is merged": {"action": "merge", "individual": "w_c", "other": "w_a"},
    "a rename to one that is there": {"action": "rename", "individual": "w_a", "new_id": "w_b"},
    "a rename to nothing": {"action": "rename", "individual": "w_a"},
    "a split from another": {"action": "split", "encounter": 1, "individual": "w_n", "other": "w_b"},
    "an undo of nothing": {"action": "undo", "undoes": 99},
    "an undo of what is undone": {"action": "undo", "undoes": 1},
}


@pytest.mark.parametrize("why", REFUSED)
def test_what_makes_no_sense_is_refused_and_nothing_is_saved(filled, why):
    undo(filled, say(filled, "unsure", encounter=3))  # decisions 1 and 2
    for encounter, name in enumerate(("w_a", "w_b", "w_c"), 1):
        _new(filled, encounter, name)
    say(filled, "merge", individual="w_c", other="w_b")
    before = decisions_of(filled), holdings_of(filled)
    with pytest.raises(FlukeprintError):
        decide(filled, [Wish("unsure", encounter=2, seen=None), Wish(**REFUSED[why], seen=None)], "ann")
    assert (decisions_of(filled), holdings_of(filled)) == before


def test_a_rename_to_an_id_that_is_there_hints_at_merging(filled):
    _new(filled, 1, "w_a"), _new(filled, 2, "w_b")
    with pytest.raises(FlukeprintError, match="decide merge"):
        say(filled, "rename", individual="w_a", new_id="w_b")


def test_an_undo_that_would_give_two_individuals_one_id_is_refused(filled):
    _new(filled, 1, "w_a")
    number = say(filled, "rename", individual="w_a", new_id="w_b")
    _new(filled, 2, "w_a")
    with pytest.raises(FlukeprintError, match="w_a"):
        undo(filled, number)
    assert shown(filled)[100] == "w_b"


def test_nobody_decides_namelessly(filled):
    for who in ("", "  ", "a\nb"):
        with pytest.raises(FlukeprintError, match="--who"):
            say(filled, "unsure", encounter=1, who=who)


# --- several people ----------------------------------------------------------------------------------------


def test_the_second_to_decide_about_an_encounter_is_told(filled):
    _new(filled, 3, "w_a")
    first = say(filled, "confirm", encounter=1, individual="w_a", seen=0)
    for wish in (Wish("unsure", encounter=1), Wish("unsure", photo=101)):
        with pytest.raises(ConflictError, match=f"--seen {first}"):
            decide(filled, [wish], "bob")
    second = say(filled, "unsure", photo=101, seen=first, who="bob")
    with pytest.raises(ConflictError, match=f"--seen {second}"):
        decide(filled, [Wish("unsure", encounter=1, seen=first)], "ann")
    say(filled, "unsure", encounter=1, seen=second)


def test_an_undo_is_something_that_the_next_one_has_to_have_seen(filled):
    number = say(filled, "unsure", encounter=1)
    say(filled, "undo", undoes=number)
    with pytest.raises(ConflictError):
        decide(filled, [Wish("unsure", encounter=1, seen=number)], "bob")


def test_decisions_saved_at_once_do_not_conflict_with_each_other(filled):
    decide(filled, [Wish("unsure", photo=100), Wish("unsure", photo=101)], "ann")
    assert statuses(filled)[100] == statuses(filled)[101] == "unsure"


def test_of_eight_writers_at_once_none_is_lost_and_all_but_the_first_are_told(filled):
    start = threading.Barrier(8, timeout=60)

    def writer(number: int) -> list[str]:
        own = open_catalogue(filled.place)
        start.wait()
        found = []
        for encounter in (1, 2, 3):
            try:
                decide(
                    own, [Wish("new", encounter=encounter, individual=f"w_{number}_{encounter}")], f"writer {number}"
                )
                found.append("saved")
            except ConflictError:
                found.append("told")
        for _ in range(5):
            decide(own, [Wish("unsure", encounter=1 + number % 3, seen=None)], f"writer {number}")
        return found

    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(writer, range(8)))
    for encounter in range(3):
        assert sorted(one[encounter] for one in outcomes) == ["saved"] + ["told"] * 7
    log = decisions_of(filled)
    assert [one.id for one in log] == sorted(one.id for one in log)
    assert len(log) == 3 + 8 * 5
    with filled.database.reading() as connection:
        assert disagreements(connection) == []


# --- any sequence ------------------------------------------------------------------------------------------

NAMES = [f"w_{letter}" for letter in "abcd"]
PHOTOS = {100: 1, 101: 1, 200: 2, 201: 2, 300: 3, 301: 3}
SUBJECTS = st.one_of(
    st.sampled_from([1, 2, 3]).map(lambda number: {"encounter": number}),
    st.sampled_from(sorted(PHOTOS)).map(lambda number: {"photo": number}),
)
WHO = st.sampled_from(NAMES)
WISHES = st.one_of(
    st.builds(lambda a, s, i: {"action": a, "individual": i, **s}, st.sampled_from(["new", "confirm"]), SUBJECTS, WHO),
    st.builds(lambda s, i: {"action": "reject", "individual": i, **s}, SUBJECTS, WHO),
    st.builds(lambda s: {"action": "unsure", **s}, SUBJECTS),
    st.builds(lambda s, i, o: {"action": "split", "individual": i, "other": o, **s}, SUBJECTS, WHO, WHO),
    st.builds(lambda i, o: {"action": "merge", "individual": i, "other": o}, WHO, WHO),
    st.builds(lambda i, n: {"action": "rename", "individual": i, "new_id": n}, WHO, WHO),
    st.integers(1, 25).map(lambda back: {"action": "undo", "back": back}),
    st.integers(1, 4).map(lambda back: {"action": "undo", "back": back}),
)


class _RollbackError(Exception):
    pass


@pytest.fixture(scope="module")
def shared(tmp_path_factory) -> Catalogue:
    catalogue = create_catalogue(str(tmp_path_factory.mktemp("log") / "catalogue"))
    with catalogue.database.writing() as connection:
        for encounter in (1, 2, 3):
            add_encounter(connection, encounter, 2)
        for number, name in enumerate(NAMES[:2]):
            save(connection, [Wish("new", encounter=number + 1, individual=name)], "ann")
    return catalogue


@settings(max_examples=500, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(sequence=st.lists(WISHES, min_size=5, max_size=25))
def test_after_any_sequence_the_state_is_that_of_a_plain_recomputation_from_the_log(shared, sequence):
    with pytest.raises(_RollbackError), shared.database.writing() as connection:
        for wish in sequence:
            last = connection.execute(select(DecisionRow.id).order_by(DecisionRow.id.desc())).scalars().first()
            wish = {**wish, "undoes": last + 1 - wish["back"]} if "back" in wish else wish  # noqa: PLW2901
            wish.pop("back", None)
            # What is refused leaves the state as it was, which is looked at below.
            with suppress(FlukeprintError), connection.begin_nested():
                save(connection, [Wish(**wish, seen=None)], "ann")
        assert disagreements(connection) == []
        assert kept(connection).photos == plainly(
            connection.execute(select(DecisionRow).order_by(DecisionRow.id)).all()
        )
        raise _RollbackError


def plainly(log: list) -> dict[int, tuple]:
    """Work out whom the photos show once more, from what the decisions' definition says and nothing else."""

    def holds(decision) -> bool:
        return not any(holds(other) for other in log if other.undoes == decision.id)

    standing = [one for one in log if one.action not in ("undo", "merge", "rename") and holds(one)]

    def verdict(subject: str, number: int) -> tuple[str | None, int | None, set[int]]:
        status, who, rejected = None, None, set()
        for one in standing:
            if getattr(one, subject) != number:
                continue
            if one.action == "reject":
                rejected.add(one.individual)
                if who == one.individual:
                    status, who = "open", None
            elif one.action == "unsure":
                status, who = "unsure", None
            else:
                rejected |= {one.other} - {None}
                rejected -= {one.individual}
                status, who = "confirmed", one.individual
        return status, who, rejected

    found = {}
    for photo, encounter in PHOTOS.items():
        status, who, rejected = verdict("photo_id", photo)
        whole, of_all, not_all = verdict("encounter_id", encounter)
        if status is None:
            status, who = (whole or "open", of_all) if of_all is None or of_all not in rejected else ("open", None)
        found[photo] = (status, who, frozenset(rejected | not_all) - {who})
    return found
