"""Imports: what folders, names and photos say, that nothing is added twice, and that nothing is lost silently."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from catalogue_model import calibration, everything, fake_model, import_folder, save_whales, seeds, whale
from PIL import Image
from ray_here import ray_in_this_process

from flukeprint.catalogue.catalogues import create_catalogue, open_catalogue
from flukeprint.catalogue.checking import faults_of
from flukeprint.catalogue.deciding import Wish, decide
from flukeprint.catalogue.import_plan import planned, read_source
from flukeprint.catalogue.import_words import done_text
from flukeprint.catalogue.importing import Import
from flukeprint.catalogue.kept_state import disagreements
from flukeprint.catalogue.second_names import open_second_names, second_name_lines
from flukeprint.catalogue.sightings import decisions_of, holdings_of
from flukeprint.catalogue.vector_cache import known_model, read_vectors
from flukeprint.core.ray_cluster import Cluster, ray_map


def whom(catalogue) -> dict[str, str | None]:
    """Return whom the photos show, by the file's name."""
    return {one.name: one.individual for one in holdings_of(catalogue).sightings}


def encounters(catalogue) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for one in holdings_of(catalogue).sightings:
        found.setdefault(one.encounter_name, set()).add(one.name)
    return found


def verdicts(catalogue, source: Path) -> dict[str, tuple[str, str | None]]:
    return {one.row.where: (one.verdict, one.why) for one in planned(catalogue, read_source(source, "individuals"))}


def test_a_folder_per_individual_and_in_it_one_per_encounter(catalogue, tmp_path):
    photos = {
        "w_a/1.jpg": (1, 1), "w_a/2.jpg": (1, 2), "w_b/may/3.jpg": (2, 1), "w_b/may/4.jpg": (2, 2),
        "w_b/june/5.jpg": (2, 3), "unknown/6.jpg": (3, 1), "new_whale/7.jpg": (4, 1), "8.jpg": (5, 1),
    }  # fmt: skip
    done = import_folder(catalogue, save_whales(tmp_path / "known", photos))
    assert (done.photos, done.encounters, done.individuals, done.refused) == (8, 7, ["w_a", "w_b"], [])
    assert whom(catalogue) == {"1.jpg": "w_a", "2.jpg": "w_a", "3.jpg": "w_b", "4.jpg": "w_b", "5.jpg": "w_b",
                               "6.jpg": None, "7.jpg": None, "8.jpg": None}  # fmt: skip
    assert encounters(catalogue)["may"] == {"3.jpg", "4.jpg"}
    assert [one.action for one in decisions_of(catalogue)] == ["new", "confirm", "new", "confirm"]
    assert {one.who for one in decisions_of(catalogue)} == {"ann"}
    with catalogue.database.reading() as connection:
        assert disagreements(connection) == []
        rows, vectors = read_vectors(connection, 1)
        assert len(rows) == 8
        assert vectors.shape == (8, 144)


def test_a_folder_per_encounter_names_nobody(catalogue, tmp_path):
    photos = {"e1/1.jpg": (1, 1), "e1/2.jpg": (1, 2), "e2/3.jpg": (2, 1), "4.jpg": (3, 1)}
    import_folder(catalogue, save_whales(tmp_path / "season", photos), "encounters")
    assert encounters(catalogue) == {"e1": {"1.jpg", "2.jpg"}, "e2": {"3.jpg"}, "4.jpg": {"4.jpg"}}
    assert decisions_of(catalogue) == []


def test_again_adds_only_what_is_new(catalogue, tmp_path):
    source = save_whales(tmp_path / "known", seeds(["w_a", "w_b"], 2))
    import_folder(catalogue, source)
    before = holdings_of(catalogue), decisions_of(catalogue)
    again = import_folder(catalogue, source)
    assert (again.photos, again.encounters, again.individuals) == (0, 0, [])
    assert (holdings_of(catalogue), decisions_of(catalogue)) == before
    save_whales(source, {"w_b/more.jpg": (1, 9), "w_c/first.jpg": (2, 0)})
    more = import_folder(catalogue, source)
    assert (more.photos, more.individuals) == (2, ["w_c"])
    assert whom(catalogue)["more.jpg"] == "w_b"


def test_people_decide_and_an_import_does_not_change_it(catalogue, tmp_path):
    source = save_whales(tmp_path / "known", {"w_a/e/1.jpg": (1, 1), "w_b/2.jpg": (2, 1)})
    import_folder(catalogue, source)
    decide(catalogue, [Wish("merge", individual="w_b", other="w_a"), Wish("unsure", encounter=1, seen=1)], "ann")
    save_whales(source, {"w_a/e/3.jpg": (1, 2), "w_b/4.jpg": (2, 2)})
    import_folder(catalogue, source)
    assert whom(catalogue) == {"1.jpg": None, "3.jpg": None, "2.jpg": "w_a", "4.jpg": "w_a"}
    assert verdicts(catalogue, source)["w_a/e/1.jpg"][0] == "known"
    assert "nobody" in verdicts(catalogue, source)["w_a/e/1.jpg"][1]
    assert verdicts(catalogue, source)["w_b/2.jpg"] == ("known", None)


def test_a_photo_that_cannot_be_read_is_said_and_loses_no_other(catalogue, tmp_path):
    source = save_whales(tmp_path / "known", seeds(["w_a"], 2))
    (source / "w_a" / "broken.jpg").write_bytes((source / "w_a" / "w_a_0.jpg").read_bytes()[:300])
    (source / "w_a" / "empty.png").touch()
    (source / "w_a" / "gone.jpg").symlink_to("nowhere.jpg")
    (source / "w_b").mkdir()
    (source / "w_b" / "text.jpg").write_text("no photo")
    done = import_folder(catalogue, source)
    assert sorted(whom(catalogue)) == ["w_a_0.jpg", "w_a_1.jpg"]
    refused = {plan.row.where for plan, _ in done.refused} | {
        where for where, (verdict, _) in verdicts(catalogue, source).items() if verdict == "refused"
    }
    assert refused == {"w_a/broken.jpg", "w_a/empty.png", "w_a/gone.jpg", "w_b/text.jpg"}
    assert all(why for _, why in done.refused)
    assert [one.id for one in holdings_of(catalogue).individuals] == ["w_a"]


def test_files_that_are_no_photos_are_left_alone_and_counted(tmp_path):
    source = save_whales(tmp_path / "known", seeds(["w_a"], 1))
    for name in ("Thumbs.db", "notes.txt", "w_a/a.xmp", ".DS_Store", "@eaDir/x.jpg"):
        (source / name).parent.mkdir(exist_ok=True)
        (source / name).write_bytes(b"x")
    found = read_source(source, "individuals")
    assert [row.where for row in found.rows] == ["w_a/w_a_0.jpg"]
    assert "3 other files left" in found.remarks[0]


@pytest.mark.parametrize(("layout", "says"), [("individuals", ", and nobody is named"), ("encounters", "")])
def test_photos_in_no_inner_folder_are_said_since_they_name_nobody(tmp_path, layout, says):
    source = save_whales(tmp_path / "w_a", {"1.jpg": (1, 0), "2.jpg": (1, 1), "inner/3.jpg": (2, 0)})
    says = f"2 photos in no inner folder: each is an encounter of its own{says}"
    assert read_source(source, layout).remarks == [says]
    assert read_source(source / "inner", layout).remarks[0].startswith("1 photo in no inner folder")


def test_one_file_twice_is_added_once_and_a_second_individual_for_it_is_said(catalogue, tmp_path):
    source = save_whales(tmp_path / "known", seeds(["w_a"], 1))
    (source / "w_b").mkdir()
    shutil.copy(source / "w_a" / "w_a_0.jpg", source / "w_b" / "copy.jpg")
    found = verdicts(catalogue, source)
    assert found["w_a/w_a_0.jpg"] == ("new", None)
    assert found["w_b/copy.jpg"][0] == "twice"
    assert "w_a" in found["w_b/copy.jpg"][1]
    assert import_folder(catalogue, source).photos == 1


@pytest.fixture
def under_two_ids(catalogue, tmp_path):
    """A catalogue with a file that its source has under w_a and w_b, the source, and the question."""
    source = save_whales(tmp_path / "known", {"w_a/1.jpg": (1, 1), "w_c/3.jpg": (3, 1)})
    (source / "w_b").mkdir()
    shutil.copy(source / "w_a" / "1.jpg", source / "w_b" / "2.jpg")
    plan = planned(catalogue, read_source(source, "individuals"))
    done = import_folder(catalogue, source)
    assert done.individuals == ["w_a", "w_c", "w_b"]
    [name] = done.second_names
    assert (name.id, name.second, name.merge("whales")) == (
        "w_a", "w_b", "flukeprint catalogue decide merge w_b w_a --catalogue whales"
    )  # fmt: skip
    assert f"if not: {name.about_photo('reject', 'whales')}\n" in done_text(
        read_source(source, "individuals"), plan, done, "whales"
    )
    return catalogue, source, name


def open_names(catalogue) -> list[tuple[str | None, str]]:
    with catalogue.database.reading() as connection:
        assert disagreements(connection) == []
        return [(one.id, one.second) for one in open_second_names(connection)]


def test_the_second_individual_of_a_file_is_there_and_asked_about_until_people_answer(under_two_ids):
    catalogue, source, name = under_two_ids
    assert [one.id for one in holdings_of(catalogue).individuals] == ["w_a", "w_b", "w_c"]
    before = holdings_of(catalogue)
    again = import_folder(catalogue, source)
    assert (again.second_names, again.individuals, holdings_of(catalogue)) == ([name], [], before)
    answers = [
        Wish("merge", individual="w_b", other="w_a"),
        Wish("confirm", photo=name.photo, individual="w_b", seen=name.seen),
        Wish("reject", photo=name.photo, individual="w_b", seen=None),
    ]
    for answer in answers:
        [number] = decide(catalogue, [answer], "ann")
        assert open_names(catalogue) == []
        assert import_folder(catalogue, source).second_names == []
        decide(catalogue, [Wish("undo", undoes=number)], "ann")
        assert open_names(catalogue) == [("w_a", "w_b")]


def test_a_file_that_is_there_under_another_id_is_asked_about(catalogue, tmp_path):
    for number, name in enumerate(("w_a", "w_b", "new_whale")):
        save_whales(tmp_path / str(number), {f"{name}/1.jpg": (1, 1), f"{name}/2.jpg": (2, number)})
    import_folder(catalogue, tmp_path / "2")
    done = import_folder(catalogue, tmp_path / "0")
    assert [(one.id, one.second) for one in done.second_names] == [(None, "w_a")]
    assert f"decide confirm p{done.second_names[0].photo} w_a" in next(second_name_lines(done.second_names, "whales"))
    decide(catalogue, [Wish("confirm", photo=done.second_names[0].photo, individual="w_a")], "ann")
    assert [(one.id, one.second) for one in import_folder(catalogue, tmp_path / "1").second_names] == [("w_a", "w_b")]


def test_old_ids_and_what_people_decided_are_no_questions(catalogue, tmp_path):
    source = save_whales(tmp_path / "known", {"w_a/1.jpg": (1, 1), "w_b/2.jpg": (2, 1), "w_c/3.jpg": (3, 1)})
    import_folder(catalogue, source)
    decide(catalogue, [Wish("rename", individual="w_a", new_id="w_z")], "ann")
    decide(catalogue, [Wish("merge", individual="w_b", other="w_z")], "ann")
    decide(catalogue, [Wish("confirm", encounter=3, individual="w_z", seen=3)], "ann")
    done = import_folder(catalogue, source)
    assert (done.second_names, done.individuals) == ([], [])
    assert open_names(catalogue) == []


def test_of_one_file_twice_the_one_that_names_somebody_counts(catalogue, tmp_path):
    source = save_whales(tmp_path / "known", {"new_whale/1.jpg": (1, 1)})
    (source / "w_a").mkdir()
    shutil.copy(source / "new_whale" / "1.jpg", source / "w_a" / "2.jpg")
    assert [one[0] for one in verdicts(catalogue, source).values()] == ["twice", "new"]
    import_folder(catalogue, source)
    assert whom(catalogue) == {"2.jpg": "w_a"}


def test_names_with_blanks_become_ids_and_two_names_never_one_individual(catalogue, tmp_path):
    photos = {"Scar Face/1.jpg": (1, 1), "Scar_Face/2.jpg": (2, 1), "+bad/3.jpg": (3, 1), "scarface/4.jpg": (4, 1)}
    source = save_whales(tmp_path / "known", photos)
    found = verdicts(catalogue, source)
    assert [found[f"{name}"][0] for name in photos] == ["new", "refused", "refused", "new"]
    assert "looks like" in found["scarface/4.jpg"][1]
    import_folder(catalogue, source)
    named = {one.id: one.name for one in holdings_of(catalogue).individuals}
    assert named == {"Scar_Face": "Scar Face", "scarface": None}


def test_time_and_position_come_from_the_photo_itself(catalogue, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    exif.get_ifd(0x8769).update({0x9003: "2026:07:01 09:30:15", 0x9011: "+12:00"})
    exif.get_ifd(0x8825).update({1: "S", 2: (42.0, 24.0, 30.0), 3: "E", 4: (173.0, 40.0, 48.0)})
    (tmp_path / "w_a").mkdir()
    for number in (1, 2):
        whale(1, number).save(tmp_path / "w_a" / f"{number}.jpg", exif=exif)
    import_folder(catalogue, tmp_path)
    one = holdings_of(catalogue).sightings[0]
    assert (one.taken_at, one.latitude, one.longitude) == ("2026-07-01T09:30:15+12:00", -42.4083333, 173.68)
    assert one.date == "2026-07-01"
    # Photos of one individual on one day are one encounter.
    assert encounters(catalogue) == {"w_a 2026-07-01": {"1.jpg", "2.jpg"}}


@pytest.mark.parametrize("taken", ["0000:00:00 00:00:00", "yesterday", "2026:13:40 09:30:15", ""])
def test_a_broken_time_is_none(catalogue, tmp_path, taken):
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9003] = taken
    exif.get_ifd(0x8825).update({1: "N", 2: (0.0, 0.0, 0.0), 3: "E", 4: (0.0, 0.0, 0.0)})
    (tmp_path / "w_a").mkdir()
    whale(1, 1).save(tmp_path / "w_a" / "1.jpg", exif=exif)
    import_folder(catalogue, tmp_path)
    [one] = holdings_of(catalogue).sightings
    assert (one.taken_at, one.latitude) == (None, None)


def test_photos_are_kept_by_their_sha256_and_the_folder_can_be_moved(tmp_path):
    source = save_whales(tmp_path / "known", {"w_a/A.JPG": (1, 1), "w_b/b.png": (2, 1)})
    content = {path.name: path.read_bytes() for path in source.rglob("*.*")}
    import_folder(create_catalogue(str(tmp_path / "whales")), source)
    shutil.rmtree(source)
    (tmp_path / "whales").rename(tmp_path / "moved")
    for one in holdings_of(open_catalogue(str(tmp_path / "moved"))).sightings:
        assert one.file.read_bytes() == content[one.name]
        assert one.file.parent.name == one.sha256[:2] == hashlib.sha256(content[one.name]).hexdigest()[:2]
        assert one.file.name in {f"{one.sha256}.jpg", f"{one.sha256}.png"}


def test_photos_may_stay_where_they_are(tmp_path):
    source = save_whales(tmp_path / "known", seeds(["w_a"], 1))
    catalogue = create_catalogue(str(tmp_path / "whales"), in_place=True)
    import_folder(catalogue, source)
    assert [one.file for one in holdings_of(catalogue).sightings] == [source / "w_a" / "w_a_0.jpg"]
    assert sorted(path.name for path in (tmp_path / "whales").iterdir() if "catalogue.db" not in path.name) == []


def test_photos_that_were_moved_are_found_again(tmp_path):
    source = save_whales(tmp_path / "known", seeds(["w_a"], 2))
    catalogue = create_catalogue(str(tmp_path / "whales"), in_place=True)
    import_folder(catalogue, source)
    source.rename(tmp_path / "moved")
    done = import_folder(catalogue, tmp_path / "moved")
    assert (done.photos, done.moved) == (0, 2)
    assert faults_of(catalogue) == []
    assert import_folder(catalogue, tmp_path / "moved").moved == 0


def test_a_file_that_changes_under_way_is_refused(catalogue, tmp_path):
    source = save_whales(tmp_path / "known", seeds(["w_a"], 2))
    plan = planned(catalogue, read_source(source, "individuals"))
    whale(5, 5).save(source / "w_a" / "w_a_0.jpg")
    model = fake_model()
    done = Import(catalogue, model, known_model(catalogue, model), "ann").carry_out(plan)
    assert [photo.row.where for photo, _ in done.refused] == ["w_a/w_a_0.jpg"]
    assert whom(catalogue) == {"w_a_1.jpg": "w_a"}


def test_two_imports_at_once_add_nothing_twice(catalogue, tmp_path):
    source = save_whales(tmp_path / "known", seeds(["w_a", "w_b"], 3))
    model = fake_model()
    number = known_model(catalogue, model)
    first = planned(catalogue, read_source(source, "individuals"))
    second = planned(catalogue, read_source(source, "individuals"))
    assert Import(catalogue, model, number, "ann").carry_out(first).photos == 6
    late = Import(catalogue, model, number, "bob").carry_out(second)
    assert (late.photos, late.encounters, late.individuals) == (0, 0, [])
    assert {one.who for one in decisions_of(catalogue)} == {"ann"}


def test_batches_do_not_change_the_result(tmp_path, monkeypatch):
    source = save_whales(tmp_path / "known", {f"w_{n % 3}/e{n % 5}/{n}.jpg": (n % 3, n) for n in range(40)})
    found = []
    for batch in (1, 7, 1000):
        monkeypatch.setattr("flukeprint.catalogue.importing._BATCH", batch)
        catalogue = create_catalogue(str(tmp_path / f"whales {batch}"))
        import_folder(catalogue, source)
        holdings = holdings_of(catalogue)
        found.append((holdings.encounters, holdings.individuals, whom(catalogue)))
    assert found[0] == found[1] == found[2]


def test_a_cluster_imports_what_this_machine_does(tmp_path, monkeypatch):
    source = save_whales(tmp_path / "known", {f"w_{n % 3}/e{n % 5}/{n}.jpg": (n % 3, n) for n in range(70)})
    (source / "w_1" / "broken.jpg").write_bytes(b"no photo")
    refused = [import_folder(create_catalogue(str(tmp_path / "here")), source).refused]
    begun = ray_in_this_process(monkeypatch, tmp_path / "tmp")
    with ray_map(Cluster("auto", option="--ray")) as machines:
        model = replace(fake_model(calibration()), machines=machines)
        refused.append(import_folder(create_catalogue(str(tmp_path / "there")), source, model=model).refused)
    assert len(begun) == 3
    assert refused[0] == refused[1] != []
    rows, photos = everything(tmp_path / "here")
    assert (len(rows["photos"]), len(rows["vectors"]), len(rows["decisions"]), len(photos)) == (70, 70, 15, 70)
    assert everything(tmp_path / "there") == (rows, photos)


def test_nearly_the_same_picture_under_two_ids_is_said(catalogue, tmp_path):
    source = save_whales(tmp_path / "known", seeds(["w_a", "w_b"], 2))
    assert import_folder(catalogue, source).named_otherwise == []
    (tmp_path / "late" / "w_b").mkdir(parents=True)
    with Image.open(source / "w_a" / "w_a_1.jpg") as image:
        image.save(tmp_path / "late" / "w_b" / "copy.png")
    done = import_folder(catalogue, tmp_path / "late")
    called = {one.name: one.photo for one in holdings_of(catalogue).sightings}
    assert done.named_otherwise == [(called["copy.png"], "w_b", called["w_a_1.jpg"], "w_a")]
    source = read_source(tmp_path / "late", "individuals")
    said = done_text(source, planned(catalogue, source), done, "whales")
    assert f"! p{called['copy.png']} of w_b is nearly the same picture as p{called['w_a_1.jpg']} of w_a\n" in said
    with Image.open(tmp_path / "known" / "w_a" / "w_a_0.jpg") as image:
        image.save(tmp_path / "late" / "w_b" / "again.png")
    decide(catalogue, [Wish("merge", individual="w_b", other="w_a")], "ann")
    assert import_folder(catalogue, tmp_path / "late").named_otherwise == []


def test_odd_photos_are_counted(catalogue, tmp_path):
    (tmp_path / "known" / "w_a").mkdir(parents=True)
    Image.new("L", (20, 24), 90).save(tmp_path / "known" / "w_a" / "flat.png")
    whale(1, 1).save(tmp_path / "known" / "w_a" / "whole.png")
    done = import_folder(catalogue, tmp_path / "known")
    assert done.flags == {"photo_size": 1, "photo_contrast": 1, "photo_grey": 1}
    source = read_source(tmp_path / "known", "individuals")
    assert "photo_contrast 1, photo_grey 1, photo_size 1" in done_text(
        source, planned(catalogue, source), done, "whales"
    )


def test_planning_looks_at_the_spelling_of_each_id_once(tmp_path, monkeypatch):
    from flukeprint.catalogue import import_plan

    asked: list[str] = []
    original = import_plan.spelling_key
    monkeypatch.setattr(import_plan, "spelling_key", lambda text: asked.append(text) or original(text))
    catalogue = create_catalogue(str(tmp_path / "whales"))
    save_whales(tmp_path / "known", seeds([f"w_{number}" for number in range(12)], 1))
    assert {verdict for verdict, _ in verdicts(catalogue, tmp_path / "known").values()} == {"new"}
    assert len(asked) == 12 + 1  # and new_whale
