"""The page to mail: what it shows, how large it gets, and how a browser shows it."""

from __future__ import annotations

import html
import io
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from gallery_folder import PROVENANCE, vectors_of
from PIL import Image
from quality_folder import texture
from real_browser import Page

from flukeprint.bundle.album import Entry, FileAlbum
from flukeprint.data.inspection import inspect_photo
from flukeprint.identify import page_pictures
from flukeprint.identify.answers import Identification, PhotoAnswer
from flukeprint.identify.identification_page import write_page
from flukeprint.identify.matching import Match, RankedCandidate
from flukeprint.identify.page_pictures import PagePictures
from flukeprint.retrieval.gallery import Gallery, PhotoList, build_gallery

IDS = ["w_a"] * 5 + ["w_b"] * 2 + ["w_" + "x" * 62] + ["<img/**/src=x/onerror=alert(1)>"]


class Pictures(FileAlbum):
    """An album that draws a photo when it is asked for, and counts how often."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def entry(self, photo):
        self.asked.append(photo.image)
        return Entry("0" * 64, 0, b"", noisy(len(photo.image) * 7 + sum(map(ord, photo.image)), (480, 300)))


def noisy(seed: int, size: tuple[int, int]) -> bytes:
    """Return a JPEG that is not easily made smaller."""
    stream = io.BytesIO()
    noise = np.random.default_rng(seed).integers(0, 60, (size[1], size[0], 3), np.uint8)
    Image.fromarray((np.asarray(texture(seed, size)) // 2 + noise).astype(np.uint8)).save(stream, "JPEG", quality=80)
    return stream.getvalue()


def gallery() -> Gallery:
    """Photos of four individuals; nobody checks the ids, so that hostile ones are in it."""
    names = [f"{number}.jpg" for number in range(len(IDS))]
    made = build_gallery(vectors_of(len(IDS)), names, [f"i{n}" for n in range(len(IDS))], PROVENANCE)
    columns = zip(
        *((photo.image, name, photo.sha256) for photo, name in zip(made.photos, sorted(IDS), strict=True)), strict=True
    )
    return replace(made, photos=PhotoList.of(*columns))


def answered(folder: Path, names: list[str]) -> Identification:
    """Answer photos, each with all individuals as candidates, by the vectors of the gallery's own photos."""
    held = gallery()
    answers, vectors = [], []
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(noisy(number, (900, 500)))
        vector = held.vectors[number % len(held)]
        likeness = held.vectors @ vector
        candidates = []
        for place, called in enumerate(held.individuals):
            rows = np.flatnonzero(held.individual == place)
            best = rows[np.argmax(likeness[rows])]
            chance = 0.5 / (place + 1)
            candidates.append(RankedCandidate(called, chance, likeness[best], 0.1, held.photos[best].image, len(rows)))
        record = inspect_photo((folder / name).parent, (folder / name).name)
        answers.append(PhotoAnswer(folder / name, record, Match(candidates, 0.25), [], []))
        vectors.append(vector)
    return Identification(answers, np.array(vectors), [], held, Pictures(), None, 0.325)


def test_every_photo_is_in_the_index_with_its_first_answer_and_leads_to_its_place(tmp_path):
    write_page(tmp_path / "page.html", answered(tmp_path, ["a.jpg", "b/c.jpg"]))
    page = (tmp_path / "page.html").read_text()
    index = page[page.index('<nav id="index"') : page.index("</nav>")]
    links = re.findall(r'href="#(photo-\d)"><bdi>(.*?)</bdi></a>\s*<span><bdi>(.*?)</bdi> (.*?)</span>', index)
    first = html.escape(sorted(IDS)[0])
    says = "50.0 % · none of the gallery 25.0 %"
    assert links == [
        ("photo-1", str(tmp_path / "a.jpg"), first, says), ("photo-2", str(tmp_path / "b/c.jpg"), first, says)
    ]  # fmt: skip
    for number, path, *_ in links:
        assert re.search(rf'<article class="photo" id="{number}">\s*<header><h2>{re.escape(path)}</h2>', page)
    write_page(tmp_path / "page.html", answered(tmp_path, ["a.jpg"]))
    assert "<nav" not in (tmp_path / "page.html").read_text()


def test_a_candidate_has_several_photos_the_most_similar_first_and_each_is_drawn_once(tmp_path):
    answers = answered(tmp_path, [f"{number}.jpg" for number in range(6)])
    pictures = PagePictures(answers)
    [five] = [one for one in answers.answers[2].match.candidates if one.id == "w_a"]
    rows = pictures.rows_of(2, five)
    own = [row for row, photo in enumerate(answers.gallery.photos) if photo.id == "w_a"]
    likeness = answers.gallery.vectors @ answers.vectors[2]
    assert rows == sorted(own, key=lambda row: -likeness[row])[:3]
    assert answers.gallery.photos[rows[0]].image == five.photo
    write_page(tmp_path / "page.html", answers)
    assert len(answers.album.asked) == len(set(answers.album.asked)) > len(answers.gallery.individuals)
    page = (tmp_path / "page.html").read_text()
    assert page.count("background-image:url(data:") == len(answers.album.asked)
    used = {int(row) for row in re.findall(r'class="t p(\d+)"', page)}
    assert used == {int(row) for row in re.findall(r"\.p(\d+)\{background", page)}


@pytest.mark.parametrize("room", [250_000, 120_000])
def test_pictures_get_smaller_and_fewer_so_that_a_page_of_many_can_be_mailed(tmp_path, monkeypatch, room):
    answers = answered(tmp_path, [f"{number}.jpg" for number in range(6)])
    write_page(tmp_path / "free.html", answers)
    monkeypatch.setattr(page_pictures, "_PAGE_BYTES", room)
    write_page(tmp_path / "page.html", answers)
    assert (tmp_path / "page.html").stat().st_size < room < (tmp_path / "free.html").stat().st_size
    assert PagePictures(answers).rows_of(0, answers.answers[0].match.candidates[-1])


def test_a_picture_within_its_bytes_is_left_as_it_is_and_none_is_made_tiny():
    jpeg = noisy(1, (800, 400))
    assert page_pictures._within(jpeg, len(jpeg)) is jpeg
    for most in (len(jpeg) - 1, 20_000, 9_000):
        drawn = page_pictures._within(jpeg, most)
        assert most / 4 < len(drawn) <= most
        assert Image.open(io.BytesIO(drawn)).width == pytest.approx(2 * Image.open(io.BytesIO(drawn)).height, abs=2)
    assert Image.open(io.BytesIO(page_pictures._within(jpeg, 10))).size == (160, 80)
    small = noisy(2, (100, 50))
    assert Image.open(io.BytesIO(page_pictures._within(small, 10))).size == (100, 50)


@pytest.mark.parametrize(("width", "scheme"), [(420, "dark"), (1366, "light")])
def test_a_browser_shows_it_without_scrolling_sideways_and_runs_nothing_of_a_name(chromium, tmp_path, width, scheme):
    long = "-".join(["a" * 60] * 3) + ".jpg"
    hostile = ["<img src=x onerror=alert(1)>.jpg", "\u202egpj/x.jpg", f"{'d' * 200}/{'e' * 200}/{long}", "b.jpg"]
    write_page(tmp_path / "page.html", answered(tmp_path, hostile))
    page = Page(chromium, width, scheme)
    page.page.on("dialog", lambda dialog: page.complaints.append(dialog.message))
    page.page.goto((tmp_path / "page.html").as_uri())
    assert page.page.evaluate("document.documentElement.scrollWidth") == width
    assert page.page.locator("img").count() == len(hostile)
    assert "<img src=x onerror=alert(1)>.jpg" in page.text("#index")
    assert "\\u202egpj" in page.text("#index li:nth-child(2)")
    query, candidate = (
        page.page.locator(f"#photo-1 {part}").first.bounding_box()["width"] for part in (".query img", ".candidates .t")
    )
    assert min(query, candidate) >= min(width - 40, 500)
    page.page.locator("#index a").last.click()
    top = page.page.locator("#photo-4").bounding_box()["y"]
    assert -1 <= top < 768 / 2
    assert page.serious_faults() == []
    page.page.evaluate("scrollTo(0, document.querySelector('#photo-1 .candidates li:nth-child(2)').offsetTop)")
    assert page.page.locator("#photo-1 .query img").bounding_box()["y"] >= -1  # it stays beside its candidates
    assert page.complaints == []
    colour = page.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (colour == "rgb(255, 255, 255)") == (scheme == "light")
