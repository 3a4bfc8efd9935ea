"""Mistakes that were put into a catalogue are found, and named first."""

from __future__ import annotations

import shutil

import pytest
from catalogue_model import calibration, fake_model, import_folder, save_whales
from PIL import Image

from flukeprint.catalogue.audit import audit
from flukeprint.catalogue.audit_words import audit_text
from flukeprint.catalogue.catalogues import create_catalogue
from flukeprint.catalogue.checking import faults_of
from flukeprint.catalogue.sightings import holdings_of

MODEL = fake_model(calibration())
GOOD = {f"w_{seed}/{seed}_{n}.jpg": (seed, n) for seed in range(6) for n in range(3)}
ONE_WHALE = {"w_second/x.jpg": (2, 20), "w_second/y.jpg": (2, 21)}  # is w_2
TWO_WHALES = {f"w_both/{n}.jpg": (40 + n // 3, n) for n in range(6)}
WRONG = {"w_0/wrong.jpg": (4, 30)}  # is w_4


def made(folder, photos):
    catalogue = create_catalogue(str(folder / "whales"))
    import_folder(catalogue, save_whales(folder / "known", photos))
    return catalogue


@pytest.mark.numeric
def test_planted_mistakes_come_first(tmp_path):
    catalogue = made(tmp_path, GOOD | ONE_WHALE | TWO_WHALES | WRONG)
    found = audit(catalogue, MODEL, 1, 3)
    pair, next_one, _ = found.one_whale
    assert (pair.first, pair.second) == ("w_2", "w_second")
    assert pair.probability > 20 * next_one.probability
    assert found.two_whales[0].id == "w_both"
    assert len(found.two_whales[0].photos) == 3
    assert found.two_whales[0].probability > 0.5
    name_of = {one.photo: one.name for one in holdings_of(catalogue).sightings}
    wrong = found.mislabelled[0]
    assert (name_of[wrong.photo], wrong.id, wrong.other) == ("wrong.jpg", "w_0", "w_4")
    assert wrong.probability > 0.5
    assert "w_2 and w_second" in audit_text(found, "whales")


@pytest.mark.numeric
def test_in_a_good_catalogue_nothing_is_probable(tmp_path):
    found = audit(made(tmp_path, GOOD), MODEL, 1, 20)
    assert len(found.two_whales) == 6
    assert len(found.mislabelled) == 18
    assert len(found.one_whale) == 15
    assert max(one.probability for one in [*found.one_whale, *found.two_whales, *found.mislabelled]) < 0.5


def test_one_picture_under_two_ids_is_found_without_any_calibration(tmp_path):
    save_whales(tmp_path / "known", GOOD)
    with Image.open(tmp_path / "known/w_1/1_1.jpg") as image:
        (tmp_path / "known/w_x").mkdir()
        image.save(tmp_path / "known/w_x/copy.png")
    catalogue = create_catalogue(str(tmp_path / "whales"))
    import_folder(catalogue, tmp_path / "known")
    found = audit(catalogue, fake_model(None), 1, 20)
    [pair] = found.one_whale
    assert (pair.first, pair.second, pair.probability) == ("w_1", "w_x", None)
    name_of = {one.photo: one.name for one in holdings_of(catalogue).sightings}
    assert [name_of[photo] for photo in pair.same_pictures] == ["1_1.jpg", "copy.png"]
    assert (found.two_whales, found.mislabelled) == ([], [])
    assert found.without in audit_text(found, "whales")
    assert "%" not in audit_text(found, "whales")


def test_one_file_under_two_ids_comes_first_with_the_command_that_merges_them(tmp_path):
    source = save_whales(tmp_path / "known", GOOD)
    shutil.copytree(source / "w_1", source / "w_x")
    catalogue = create_catalogue(str(tmp_path / "whales"))
    import_folder(catalogue, source)
    found = audit(catalogue, MODEL, 1, 2)
    assert [(one.id, one.second) for one in found.second_names] == [("w_1", "w_x")] * 2
    title, first, *_ = audit_text(found, "whales").splitlines()
    assert title == "One whale under two ids"
    assert "w_1 and w_x" in first
    assert first.endswith("decide merge w_x w_1 --catalogue whales")


def test_too_little_to_compare_is_no_mistake(tmp_path):
    for number, photos in enumerate(({}, {"w_a/1.jpg": (1, 1)}, {"w_a/1.jpg": (1, 1), "w_a/2.jpg": (1, 2)})):
        catalogue = create_catalogue(str(tmp_path / f"whales {number}"))
        if photos:
            import_folder(catalogue, save_whales(tmp_path / f"known {number}", photos))
        found = audit(catalogue, MODEL, 1, 20)
        assert found.one_whale == []
        assert len(found.two_whales) == (number == 2)


def test_check_names_a_photo_that_is_gone_or_another_one(tmp_path):
    catalogue = made(tmp_path, {"w_a/1.jpg": (1, 1), "w_a/2.jpg": (1, 2), "w_a/3.jpg": (1, 3)})
    assert faults_of(catalogue) == []
    first, second, _ = holdings_of(catalogue).sightings
    first.file.unlink()
    second.file.write_bytes(b"other")
    gone, changed = faults_of(catalogue)
    assert f"p{first.photo}:" in gone
    assert f"p{second.photo}:" in changed
