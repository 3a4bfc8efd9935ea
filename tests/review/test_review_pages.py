"""What the pages show, and what their forms save."""

from __future__ import annotations

import html
import io
import json
import re
import shutil

import pytest
from catalogue_model import calibration, fake_model, import_folder
from gallery_folder import PROVENANCE
from PIL import Image
from review_browser import Browser
from sqlalchemy import update

from flukeprint.catalogue.deciding import Wish, decide
from flukeprint.catalogue.entities import EncounterRow, IndividualRow, IndividualStateRow, PhotoRow
from flukeprint.catalogue.restriction import restriction
from flukeprint.catalogue.season import ask
from flukeprint.catalogue.sightings import decisions_of, holdings_of
from flukeprint.catalogue.vector_cache import known_model
from flukeprint.scoring.calibration import EARLIER


def shown(catalogue, encounter: int) -> tuple[str, str | None]:
    [found] = [one for one in holdings_of(catalogue).encounters if one.id == encounter]
    return found.status, found.individual


def text_of(page: str) -> str:
    return html.unescape(" ".join(re.sub(r"<[^>]*>", " ", page).split()))


def test_the_start_page_says_what_is_to_do(browser, number):
    page = text_of(browser.get("/"))
    assert "3 Probably known: quickly confirmed" in page
    assert "2 Probably new" in page
    assert "25 photos in 23 encounters, 6 individuals" in page
    sure = {number(name) for name in ("e_known", "e_again", "e_four")}
    assert int(re.search(r'id="begin" href="/encounters/(\d+)"', browser.page)[1]) in sure


def test_the_queue_lists_a_kind_with_its_first_candidate(browser):
    page = text_of(browser.get("/queue?kind=sure"))
    assert "e_known" in page
    assert "e_four" in page
    assert "e_new" not in page
    assert re.search(r"e_four 1 photo w_4 \d+ %", page)
    browser.get("/queue?kind=nothing", 404)


def test_the_queue_opens_with_the_first_list_that_is_not_empty_and_an_empty_one_leads_to_the_others(browser, catalogue):
    page = text_of(browser.get("/queue?kind=unsure"))
    assert "Nothing here, but in Probably known 3 , Probably new 2 ." in page
    assert browser.page.partition("Nothing here")[2].count('<a href="/queue?kind=new">Probably new') == 1
    sure = [one.id for one in holdings_of(catalogue).encounters if one.name in ("e_known", "e_again", "e_four")]
    decide(catalogue, [Wish("unsure", one) for one in sure], "bob")
    assert "<title>Queue" in browser.get("/queue")
    assert re.search(r"<h1>Probably new", browser.page)
    assert "e_new_again" in browser.page


def test_an_encounter_stands_beside_its_candidates_with_what_is_to_be_known_of_them(browser, number):
    page = text_of(browser.get(f"/encounters/{number('e_known')}"))
    assert "e_known 2 photos" in page
    assert re.search(r"1 w_2 (> )?\d+ %( \*)? similarity \d\.\d{3} · 3 photos in 3 encounters", page)
    assert "None of these" in page
    assert "What the percentages mean" in page
    assert "Probably the same whale" in page
    assert "e_again as well" in page


def test_the_chance_of_none_of_them_stands_in_the_heading_and_the_likeliest_answer_is_the_primary_one(browser, number):
    page = text_of(browser.get(f"/encounters/{number('e_new')}"))
    assert re.search(r"Probably new · none of these (> )?\d+ %", page)
    assert re.findall(r'class="primary"[^>]*>(New|Confirm) ', browser.page) == ["New"]
    assert re.search(r"New Enter N Confirm w_\d C Reject", page)
    assert page.count("Confirm w_") == 1
    page = text_of(browser.get(f"/encounters/{number('e_known')}"))
    assert re.search(r"Probably known · none of these (< )?\d+ %", page)
    assert re.findall(r'class="primary"[^>]*>(New|Confirm) ', browser.page) == ["Confirm"]
    assert re.search(r"Confirm w_2 Enter Reject R New N", page)


def test_confirming_goes_on_with_the_next_encounter_and_says_what_was_saved(browser, catalogue, number):
    first = number("e_known")
    browser.get(f"/encounters/{first}")
    answer = browser.decide(first, "confirm", "w_2", note="<b>sure</b>")
    assert shown(catalogue, first) == ("confirmed", "w_2")
    [decision] = [one for one in decisions_of(catalogue) if one.encounter == first]
    assert (decision.who, decision.action, decision.note) == ("ann", "confirm", "<b>sure</b>")
    assert decision.shown["candidates"][0]["id"] == "w_2"
    assert answer.headers["location"] != f"/encounters/{first}?saved={decision.id}"
    page = text_of(browser.get(answer.headers["location"]))
    assert f"Saved: e{first} is w_2" in page
    assert "<b>sure" not in browser.page


def test_undo_takes_it_back_and_shows_the_encounter_again(browser, catalogue, number):
    first = number("e_known")
    browser.get(f"/encounters/{first}")
    saved = int(browser.decide(first, "confirm", "w_2").headers["location"].rpartition("=")[2])
    browser.get(f"/encounters/{first}")
    answer = browser.post(f"/decisions/{saved}/undo", back="//evil.example")
    assert answer.headers["location"].startswith(f"/encounters/{first}?saved=")
    assert shown(catalogue, first) == ("open", None)
    again = browser.post(f"/decisions/{saved}/undo", 409)
    assert "undone already" in again.text


@pytest.mark.parametrize("subject", ["", "p{}"])
def test_an_undo_that_is_taken_back_shows_the_encounter_again_as_well(browser, catalogue, number, subject):
    first = number("e_known")
    photo = next(one.photo for one in holdings_of(catalogue).sightings if one.encounter == first)
    browser.get(f"/encounters/{first}")
    browser.decide(first, "unsure", subject=subject.format(photo))
    for action in ("unsure", "undo", "undo"):
        last = decisions_of(catalogue)[-1]
        assert last.action == action
        answer = browser.post(f"/decisions/{last.id}/undo")
        assert answer.headers["location"] == f"/encounters/{first}?saved={last.id + 1}"
        browser.get(answer.headers["location"])


def test_a_rejected_candidate_is_no_longer_named_and_the_encounter_stays(browser, catalogue, number):
    first = number("e_known")
    browser.get(f"/encounters/{first}")
    answer = browser.decide(first, "reject", "w_2")
    page = text_of(browser.get(answer.headers["location"]))
    assert f"Saved: e{first} is not w_2" in page
    assert "Candidate 1: w_2" not in page
    assert "Not w_2 , as somebody decided" in page


def test_a_new_whale_for_several_encounters_is_a_candidate_of_what_was_answered_with_them(browser, catalogue, number):
    first, other = number("e_new"), number("e_new_again")
    browser.get(f"/encounters/{first}")
    assert browser.field("also").startswith(f"{other}:")
    answer = browser.decide(first, "new", "w_new", also=browser.field("also"))
    assert f"/encounters/{other}?" not in answer.headers["location"]
    assert shown(catalogue, first) == shown(catalogue, other) == ("confirmed", "w_new")


def test_whom_one_encounter_shows_comes_first_for_those_answered_with_it(browser, number):
    first, other = number("e_new"), number("e_new_again")
    browser.get(f"/encounters/{first}")
    browser.decide(first, "new", "w_new")
    page = text_of(browser.get(f"/encounters/{other}"))
    assert "Candidate 1: w_new" in page
    assert f"decided for e{first}, which probably shows the same whale" in page


def test_a_single_photo_is_decided_apart_from_its_encounter(browser, catalogue, number):
    first = number("e_known")
    [photo] = [one.photo for one in holdings_of(catalogue).sightings if one.name == "a2.jpg"]
    browser.get(f"/encounters/{first}")
    browser.decide(first, "confirm", "w_3", subject=f"p{photo}")
    showing = {one.name: one.individual for one in holdings_of(catalogue).sightings if one.encounter == first}
    assert showing == {"a1.jpg": None, "a2.jpg": "w_3"}


@pytest.mark.parametrize(
    ("action", "individual", "says"),
    [
        ("new", "w_2", "there is an individual w_2 already"),
        ("new", "=1+1", "cannot be used"),
        ("confirm", "w_nobody", "there is no individual w_nobody"),
        ("delete", "w_2", "expected one of confirm, reject, unsure, new"),
    ],
)
def test_what_makes_no_sense_is_refused_with_the_reason(browser, catalogue, number, action, individual, says):
    first = number("e_known")
    browser.get(f"/encounters/{first}")
    answer = browser.decide(first, action, individual, 422)
    assert says in text_of(answer.text)
    assert shown(catalogue, first) == ("open", None)


def test_the_second_reviewer_is_told_of_a_decision_that_was_made_meanwhile(browser, catalogue, number):
    first = number("e_known")
    browser.get(f"/encounters/{first}")
    decide(catalogue, [Wish("confirm", first, individual="w_2")], "bob")
    answer = browser.decide(first, "unsure", status=409)
    assert f"Not saved (unsure): somebody decided about e{first} after this page was shown (bob: confirm w_2)" in (
        text_of(answer.text)
    )
    assert shown(catalogue, first) == ("confirmed", "w_2")
    browser.page = answer.text
    browser.decide(first, "unsure")
    assert shown(catalogue, first) == ("unsure", None)


def test_of_encounters_decided_together_none_is_saved_if_one_was_decided_meanwhile(browser, catalogue, number):
    first, other = number("e_new"), number("e_new_again")
    browser.get(f"/encounters/{first}")
    decide(catalogue, [Wish("unsure", other)], "bob")
    answer = browser.decide(first, "new", "w_new", 409, also=browser.field("also"))
    assert f"somebody decided about e{other}" in text_of(answer.text)
    assert shown(catalogue, first) == ("open", None)


def test_individuals_are_listed_by_id_or_those_with_most_photos_first(browser, catalogue, number):
    def listed(path: str) -> list[tuple[str, int]]:
        cards = re.findall(r'class="id">([^<]*)</bdi>.*?(\d+) photos?<', browser.get(path), re.DOTALL)
        return [(name, int(photos)) for name, photos in cards]

    decide(catalogue, [Wish("confirm", number("e_known"), individual="w_2")], "bob")
    by_id = listed("/individuals")
    assert by_id == sorted(by_id)
    assert len({photos for _, photos in by_id}) > 1
    assert listed("/individuals?order=photos") == sorted(by_id, key=lambda one: (-one[1], one[0]))
    assert listed("/individuals?order=photos&q=w_2") == [one for one in by_id if "w_2" in one[0]]
    browser.get("/individuals?order=nonsense", 404)


def test_an_individual_is_shown_with_its_sightings_and_who_decided_them(browser, catalogue, number):
    first = number("e_known")
    decide(catalogue, [Wish("confirm", first, individual="w_2", note="nick")], "bob")
    [key] = [one.key for one in holdings_of(catalogue).individuals if one.id == "w_2"]
    page = text_of(browser.get(f"/individuals/{key}"))
    assert "5 photos in 4 encounters" in page
    assert re.search(rf"e{first} is w_2 “ nick ” bob · 20", page)
    assert re.search(r"Last decided by bob , 20\d\d-\d\d-\d\d: who decided what", page)


def test_an_encounter_that_an_import_decided_is_compared_with_whom_it_shows(browser, catalogue):
    first = next(one.id for one in holdings_of(catalogue).encounters if one.individual == "w_2")
    page = text_of(browser.get(f"/encounters/{first}"))
    assert "Candidate 1: w_2" in page
    assert "as it was decided" in page
    assert "Decided" in page
    assert "not compared" not in page.lower()


def test_the_start_page_says_how_to_undo_and_how_others_come_in(browser, catalogue, number):
    first = number("e_known")
    browser.get(f"/encounters/{first}")
    browser.decide(first, "confirm", "w_2")
    page = text_of(browser.get("/"))
    assert "saved under the name ann" in page
    assert "flukeprint reviewers add NAME" in page
    saved = decisions_of(catalogue)[-1].id
    browser.post(f"/decisions/{saved}/undo")
    assert shown(catalogue, first) == ("open", None)
    assert f"Undo: decision {saved}" in browser.page


def test_merging_and_renaming_from_the_page_of_an_individual(browser, catalogue):
    keys = {one.id: one.key for one in holdings_of(catalogue).individuals}
    browser.get(f"/individuals/{keys['w_3']}")
    answer = browser.post(f"/individuals/{keys['w_3']}/merge", other="w_4", back=f"/individuals/{keys['w_3']}")
    answer = browser.client.get(answer.headers["location"])
    assert "also known as" in answer.text
    assert "w_3 is w_4" in text_of(answer.text)
    browser.page = answer.text
    browser.post(f"/individuals/{keys['w_4']}/rename", id="w_four", name="Old four")
    [found] = [one for one in holdings_of(catalogue).individuals if one.key == keys["w_4"]]
    assert (found.id, found.name, found.merged) == ("w_four", "Old four", ("w_3",))
    refused = browser.post(f"/individuals/{keys['w_1']}/merge", 422, other="w_nobody")
    assert "there is no individual w_nobody" in refused.text


def test_a_candidate_that_is_called_otherwise_by_now_is_still_the_first_one(browser, catalogue, number):
    before = re.search(
        r"Candidate 1: w_2.*?1 w_2 (\S+ ?\d* %)", text_of(browser.get(f"/encounters/{number('e_known')}"))
    )
    decide(catalogue, [Wish("rename", individual="w_2", new_id="HW-0815")], "bob")
    page = text_of(browser.get(f"/encounters/{number('e_known')}"))
    assert re.search(r"Candidate 1: HW-0815.*?1 HW-0815 (\S+ ?\d* %)", page)[1] == before[1]
    assert browser.field("individual") == "HW-0815"
    assert re.search(r"e_known 2 photos HW-0815 ", text_of(browser.get("/queue?kind=sure")))
    # Of two that are one whale by now, the chance of the likelier one is shown.
    decide(catalogue, [Wish("merge", individual="HW-0815", other="w_0")], "bob")
    page = text_of(browser.get(f"/encounters/{number('e_known')}"))
    assert re.search(r"Candidate 1: w_0.*?1 w_0 (\S+ ?\d* %)", page)[1] == before[1]


@pytest.mark.parametrize(
    ("word", "finds"), [("W_5", "w_5"), ("four", "e_four"), ("a2.jpg", "a2.jpg"), ("p7", "p7 2_0.jpg"), ("%", "None.")]
)
def test_search_finds_individuals_encounters_and_photos(browser, word, finds):
    assert finds in text_of(browser.get(f"/search?q={word.replace('%', '%25')}"))


@pytest.mark.parametrize("word", ["Ölwal", "ÖLWAL", "ölwal", "ñandú", "BAHÍA Ñ"])
def test_search_finds_letters_of_all_alphabets_in_whatever_case(browser, catalogue, number, word):
    with catalogue.database.writing() as connection:
        connection.execute(update(EncounterRow).where(EncounterRow.id == number("e_known")).values(place="Bahía Ñandú"))
        connection.execute(update(IndividualStateRow).where(IndividualStateRow.id == "w_5").values(name="Der Ölwal"))
    found = {"e_known", "Der Ölwal"} & set(re.findall(r"<bdi>([^<]*)</bdi>", browser.get(f"/search?q={word}")))
    assert found == ({"Der Ölwal"} if "l" in word.lower() else {"e_known"})


def test_photos_come_as_jpegs_by_their_checksum_to_be_kept(browser, catalogue):
    sighting = holdings_of(catalogue).sightings[0]
    answer = browser.client.get(f"/photos/{sighting.sha256}/small.jpg")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/jpeg")
    assert "immutable" in answer.headers["cache-control"]
    assert Image.open(io.BytesIO(answer.content)).size == (64, 48)
    sighting.file.unlink()
    assert browser.client.get(f"/photos/{sighting.sha256}/small.jpg").content == answer.content
    assert "Put the file back" in browser.client.get(f"/photos/{sighting.sha256}/large.jpg").text


@pytest.mark.parametrize(
    "path",
    [
        *("/encounters/999", "/encounters/0", "/encounters/x", "/individuals/999", "/nothing"),
        *(f"/photos/{'0' * 64}/small.jpg", f"/photos/{'0' * 64}/huge.jpg", "/photos/../../catalogue.db/small.jpg"),
        *("/photos/..%2f..%2fcatalogue.db/small.jpg", "/static/../pages.py", "/static/..%2fpages.py"),
        "/static/%2e%2e/pages.py",
    ],
)
def test_what_is_not_there_is_said_to_be_missing(browser, path):
    page = browser.get(path, 404)
    assert "Not done" in page
    assert "Not Found" not in page


HOSTILE = ["<img src=x onerror=alert(1)>", "\u202egnp.exe", '"><script>alert(1)</script>', "x" * 10_000, "{{ 7 * 7 }}"]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_names_and_notes_are_shown_as_text(browser, catalogue, number, text):
    first = number("e_known")
    with catalogue.database.writing() as connection:
        connection.execute(update(EncounterRow).values(name=text, place=text, notes=text))
        connection.execute(update(IndividualStateRow).values(name=text))
        connection.execute(update(IndividualRow).values(notes=text))
        connection.execute(update(PhotoRow).values(photographer=text, viewpoint=text, flags="photo_grey"))
    decide(catalogue, [Wish("confirm", first, individual="w_2", note=text)], text if text.isprintable() else "bob")
    saved = decisions_of(catalogue)[-1].id
    paths = ["/", "/queue", "/queue?kind=new", f"/encounters/{first}?saved={saved}", f"/encounters/{number('e_new')}"]
    for path in [*paths, "/individuals", "/individuals/3", "/log", f"/search?q={text[:20]}".replace("#", "")]:
        page = browser.get(path)
        assert "<img src=x" not in page, path
        assert "<script>alert" not in page, path
        assert "\u202e" not in page, path
        assert " onerror=alert(1)>" not in page
        assert " style=" not in page
    assert text[:8].replace("<", "&lt;").replace(">", "&gt;").replace('"', "&#34;").replace("\u202e", "\\u202e")[
        :12
    ] in (browser.get(f"/encounters/{first}"))


def test_an_odd_photo_and_a_copy_are_warned_of(browser, catalogue, number):
    first = number("e_known")
    with catalogue.database.writing() as connection:
        connection.execute(update(PhotoRow).where(PhotoRow.encounter_id == first).values(flags="photo_grey photo_size"))
    assert "very small: the trailing edge can hardly be seen" in text_of(browser.get(f"/encounters/{first}"))


def asked_again(catalogue, fitted) -> None:
    model, everything = fake_model(fitted), restriction(())
    ask(catalogue, model, known_model(catalogue, model), everything, everything)


def test_what_is_to_be_said_of_all_percentages_stands_where_they_are_read_and_goes_into_the_log(
    browser, catalogue, number
):
    first = number("e_known")
    assert "percentages are" not in text_of(browser.get("/")) + text_of(browser.get(f"/encounters/{first}"))
    asked_again(catalogue, calibration().model_copy(update={"fitted_to": PROVENANCE}))
    says = f"The percentages are {EARLIER}."
    assert says in text_of(browser.get("/"))
    assert says in text_of(browser.get(f"/encounters/{first}"))
    browser.decide(first, "confirm", "w_2")
    assert decisions_of(catalogue)[-1].shown["calibration_note"] == EARLIER
    asked_again(catalogue, None)
    says = "There are no percentages (this model was never calibrated (it has no decision.json)): candidates stand in"
    assert says in text_of(browser.get(f"/encounters/{number('e_four')}"))
    assert says in text_of(browser.get("/"))


@pytest.fixture
def two_ids(catalogue, number, tmp_path) -> dict[str, int]:
    """Have a source with the first photo of w_3 as w_x as well, and one of e_four as w_4; return keys and numbers."""
    held = holdings_of(catalogue)
    files = {one.name: one for one in held.sightings}
    for name, called in (("3_0.jpg", "w_x"), ("g1.jpg", "w_4")):
        (tmp_path / "more" / called).mkdir(parents=True)
        shutil.copy(files[name].file, tmp_path / "more" / called / name)
    import_folder(catalogue, tmp_path / "more")
    keys = {one.id: one.key for one in holdings_of(catalogue).individuals}
    return keys | {"photo": files["3_0.jpg"].photo, "encounter": files["3_0.jpg"].encounter}


def test_a_photo_under_two_ids_is_asked_about_on_every_page_that_it_concerns(browser, number, two_ids):
    assert "2 One photo, two ids" in text_of(browser.get("/"))
    says = f"p{two_ids['photo']} is w_3 here, and a source has the same file as w_x ."
    pages = ["/second-names", f"/encounters/{two_ids['encounter']}", f"/individuals/{two_ids['w_3']}"]
    for path in [*pages, f"/individuals/{two_ids['w_x']}"]:
        assert says in text_of(browser.get(path)), path
    assert "shows nobody yet, and a source has the same file as w_4 ." in text_of(browser.get("/second-names"))
    for path in (f"/individuals/{two_ids['w_5']}", f"/encounters/{number('e_known')}"):
        assert "a source has the same file" not in text_of(browser.get(path)), path


@pytest.mark.parametrize("answer", ["merge", "confirm", "reject"])
def test_it_is_answered_there_and_taken_back(browser, catalogue, two_ids, answer):
    browser.get("/second-names")
    fields = {"back": "/second-names"}
    if answer == "merge":
        done = browser.post(f"/individuals/{two_ids['w_x']}/merge", other="w_3", **fields)
    else:
        fields |= {"subject": f"p{two_ids['photo']}", "individual": "w_x", "seen": browser.field("seen")}
        done = browser.post(f"/encounters/{two_ids['encounter']}/decide", action=answer, **fields)
    assert done.headers["location"].startswith("/second-names?saved=")
    page = text_of(browser.get(done.headers["location"]))
    assert "Saved:" in page
    assert "w_x ." not in page
    browser.post(f"/decisions/{decisions_of(catalogue)[-1].id}/undo")
    assert "w_x ." in text_of(browser.get("/second-names"))


def test_with_two_reviewers_the_second_one_is_asked_without_being_told_what_the_first_saw(catalogue, number):
    first = number("e_four")
    ann, bob = Browser(catalogue, "ann", two_reviewers=True), Browser(catalogue, "bob", two_reviewers=True)
    ann.get(f"/encounters/{first}")
    ann.decide(first, "confirm", "w_4")
    assert "A second reviewer has not agreed yet" in text_of(ann.get(f"/encounters/{first}"))
    assert "a second opinion is wanted" not in text_of(ann.get("/"))
    assert "1 Decided by one reviewer: a second opinion is wanted" in text_of(bob.get("/"))
    page = text_of(bob.get(f"/encounters/{first}"))
    assert "Somebody decided about this encounter" in page
    assert "Who decided" not in page
    bob.decide(first, "confirm", "w_4")
    assert "Two reviewers agree" in text_of(bob.get(f"/encounters/{first}"))
    assert "a second opinion is wanted" not in text_of(bob.get("/"))


def test_two_reviewers_who_disagree_are_shown_to_each_other(catalogue, number):
    first = number("e_four")
    ann, bob = Browser(catalogue, "ann", two_reviewers=True), Browser(catalogue, "bob", two_reviewers=True)
    ann.get(f"/encounters/{first}")
    ann.decide(first, "confirm", "w_4")
    bob.get(f"/encounters/{first}")
    bob.decide(first, "confirm", "w_5")
    assert "ann said w_4 ; bob said w_5" in text_of(bob.get(f"/encounters/{first}"))


WAITING = "decided, waits for a second opinion ann"


@pytest.mark.parametrize("action", ["confirm", "new"])
def test_what_waits_for_a_second_opinion_is_told_nowhere_to_whoever_is_to_give_it(catalogue, number, action):
    first, whale = number("e_known"), "w_2" if action == "confirm" else "w_secret"
    ann, bob = Browser(catalogue, "ann", two_reviewers=True), Browser(catalogue, "bob", two_reviewers=True)
    bob.get(f"/encounters/{first}")
    ann.get(f"/encounters/{first}")
    ann.decide(first, action, whale, note=f"surely {whale}", also=f"{number('e_again')}:0")
    refused = text_of(bob.decide(first, "confirm", "w_5", 409).text)
    assert f"somebody decided about e{first} after this page was shown (ann)" in refused
    [key] = [one.key for one in holdings_of(catalogue).individuals if one.id == whale]
    for path in ("/", "/log", "/log?who=ann"):
        assert f"e{first} {WAITING}" in text_of(bob.get(path))
        assert ("surely" in bob.page, "/decisions/19/undo" in bob.page) == (False, False)
        assert f"surely {whale}" in ann.get(path)
    for path in (f"/individuals/{key}", f"/encounters/{first}?saved=19", "/second-names?saved=19"):
        assert "surely" not in bob.get(path)
    page = bob.get(f"/encounters/{first}")
    assert "which probably shows the same whale" not in page
    assert f"/encounters/{first}" not in bob.get(f"/individuals/{key}")
    assert f"/encounters/{first}" in ann.get(f"/individuals/{key}")
    bob.get(f"/encounters/{first}")
    bob.decide(first, "confirm", whale)
    assert f"surely {whale}" in bob.get("/log")
    assert f"/encounters/{first}" in bob.get(f"/individuals/{key}")


def test_what_waits_for_a_second_opinion_is_told_to_all_where_one_decides(browser, catalogue, number):
    decide(catalogue, [Wish("confirm", number("e_four"), individual="w_4", note="surely")], "bob")
    assert [("surely" in browser.get(path)) for path in ("/", "/log")] == [True, True]


def test_matched_keypoints_are_told_with_the_candidate_and_handed_to_the_page(browser, number, keypoints):
    page = browser.get(f"/encounters/{number('e_known')}")
    [content] = re.findall(r'data-matches="([^"]*)"', page)
    [match] = json.loads(html.unescape(content))
    assert (match["query"], match["candidate"], match["says"]) == (*keypoints, "3 matched keypoints")
    assert match["lines"] == [[0.5, 0.5, 0.25, 0.5], [0.1, 0.2, 0.3, 0.4], [1.0, 1.0, 0.0, 0.0]]
    assert f"3 matched keypoints in {keypoints[1]}" in text_of(page)
    assert 'data-do="lines"' in page
    without = browser.get(f"/encounters/{number('e_four')}")
    assert "matched keypoint" not in text_of(without).partition("Keys")[0]
    assert not [one for one in ("data-matches", 'data-do="lines"', 'class="matched"') if one in without]
