"""What is refused before any page, and who is let in."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest
from review_browser import Browser
from sqlalchemy import select, update

from flukeprint.catalogue.catalogues import open_catalogue
from flukeprint.catalogue.deciding import Wish, decide
from flukeprint.catalogue.entities import AccessRow
from flukeprint.catalogue.sightings import decisions_of
from flukeprint.core.errors import FlukeprintError
from flukeprint.review import reviewers
from flukeprint.review.reviewers import let_in, reviewers_of, shut_out
from flukeprint.review.settings import VARIABLE, ReviewSettings


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "evil.example:8420", "", "127.0.0.2"])
def test_another_host_is_refused(browser, host):
    assert browser.client.get("/", headers={"host": host}).status_code == 400


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:9999", "LOCALHOST"])
def test_its_own_names_are_answered(browser, host):
    assert browser.client.get("/", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://127.0.0.1:9", "http://127.0.0.1.evil.example"]
)
def test_a_form_of_another_origin_is_refused(browser, catalogue, number, origin):
    first = number("e_known")
    browser.get(f"/encounters/{first}")
    browser.post(f"/encounters/{first}/decide", 403, {"origin": origin}, action="unsure", seen="0")
    assert not [one for one in decisions_of(catalogue) if one.action == "unsure"]
    own = {"origin": "http://127.0.0.1:8420"}
    browser.post(f"/encounters/{first}/decide", 303, own, action="unsure", seen="0")


@pytest.mark.parametrize("token", ["", "0" * 64, "ü"])
def test_a_form_without_the_token_of_its_session_is_refused(browser, catalogue, number, token):
    browser.get("/log")
    browser.page += '<input name="token" value="">'
    browser.post(f"/encounters/{number('e_known')}/decide", 403, token=token, action="unsure", seen="0")
    assert "unsure" not in [one.action for one in decisions_of(catalogue)]


def test_the_token_of_another_session_is_refused(browser, catalogue, number):
    other = Browser(catalogue)
    other.get(f"/encounters/{number('e_known')}")
    browser.get("/")
    browser.page = other.page
    browser.decide(number("e_known"), "unsure", status=403)
    assert "unsure" not in [one.action for one in decisions_of(catalogue)]


@pytest.mark.parametrize("path", ["/encounters/19/decide", "/login", "/", "/photos/x/small.jpg"])
def test_large_bodies_and_uploads_are_refused_unread(browser, path):
    def endless():
        for _ in range(100):
            yield b"x" * 4096
        pytest.fail("all of it was read")

    assert browser.client.post(path, content=b"x" * 70_000).status_code == 413
    assert browser.client.post(path, headers={"content-length": str(10 * 2**30)}).status_code == 413
    assert browser.client.post(path, files={"photo": b"x"}).status_code == 415
    many = [("photo", (f"{number}.jpg", b"x")) for number in range(200)]
    assert browser.client.post(path, files=many).status_code in (413, 415)
    form = {"content-type": "application/x-www-form-urlencoded"}
    assert browser.client.post(path, content=b"&".join(b"a=1" for _ in range(10_000)), headers=form).status_code in (
        *(400, 405, 404),
    )


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_other_methods_are_refused(browser, method):
    assert browser.client.request(method, "/").status_code == 403


def test_pages_take_scripts_styles_and_pictures_from_here_alone(browser, number):
    answer = browser.client.get(f"/encounters/{number('e_known')}")
    policy = answer.headers["content-security-policy"]
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert answer.headers["cache-control"] == "no-store"
    assert not re.search(r"<script>|<style|\sstyle=|\son\w+=|https?://", answer.text)
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie


# --- login ------------------------------------------------------------------------------------------------------


def entered(catalogue, name: str, role: str, **settings) -> Browser:
    browser = Browser(catalogue, "", login=True, **settings)
    browser.get("/login")
    browser.post("/login", secret=let_in(catalogue, name, role, 1))
    return browser


def test_where_a_login_is_needed_nothing_is_shown_without_one(catalogue, number):
    browser = Browser(catalogue, "", login=True)
    for path in (
        "/",
        "/queue",
        f"/encounters/{number('e_known')}",
        "/log",
        f"/photos/{'0' * 64}/small.jpg",
        "/reviewers",
    ):
        answer = browser.client.get(path, follow_redirects=False)
        assert (answer.status_code, answer.headers["location"]) == (303, "/login")
    browser.get("/login")
    assert "not valid" in browser.post("/login", 403, secret="guess").text


def test_decisions_are_saved_under_the_name_of_who_logged_in(catalogue, number):
    browser, first = entered(catalogue, "Çelik <b>", "decide"), number("e_known")
    browser.get(f"/encounters/{first}")
    browser.decide(first, "confirm", "w_2")
    assert decisions_of(catalogue)[-1].who == "Çelik <b>"


@pytest.mark.parametrize(
    ("role", "looking", "deciding", "administering"),
    [("look", 200, 403, 403), ("decide", 200, 303, 403), ("administer", 200, 303, 200)],
)
def test_roles(catalogue, number, role, looking, deciding, administering):
    browser, first = entered(catalogue, "ann", role), number("e_known")
    browser.get(f"/encounters/{first}", looking)
    assert ('id="decide"' in browser.page) == (deciding == 303)
    browser.post(f"/encounters/{first}/decide", deciding, action="unsure", seen="0")
    browser.post("/reviewers", administering, name="bob", role="administer", days="1")
    browser.get("/reviewers", administering)


@pytest.mark.parametrize(("role", "told"), [("look", False), ("decide", False), ("administer", True)])
def test_whoever_administers_is_told_what_waits_for_a_second_opinion(catalogue, number, role, told):
    decide(catalogue, [Wish("confirm", number("e_four"), individual="w_4", note="surely")], "ann")
    browser = entered(catalogue, "bob", role, two_reviewers=True)
    assert [("surely" in browser.get(path)) for path in ("/", "/log")] == [told, told]


def test_only_hashes_of_secrets_are_kept_and_they_end(catalogue):
    token = let_in(catalogue, "ann", "decide", 1)
    browser = Browser(catalogue, "", login=True)
    browser.get("/login")
    before = browser.client.cookies["flukeprint_session"]
    browser.post("/login", secret=token)
    secret = browser.client.cookies["flukeprint_session"]
    assert secret != before
    with catalogue.database.reading() as connection:
        kept = str(connection.execute(select(AccessRow)).all())
    assert token not in kept
    assert secret not in kept
    assert reviewers.hash_of(token) in kept
    browser.get("/")
    with catalogue.database.writing() as connection:
        past = "2020-01-01T00:00:00+00:00"
        connection.execute(update(AccessRow).where(AccessRow.kind == "session").values(ends_at=past))
    assert browser.client.get("/", follow_redirects=False).status_code == 303


def test_a_session_ends_with_its_token_with_logging_out_and_with_its_reviewer(catalogue, monkeypatch):
    monkeypatch.setattr(reviewers, "SESSION", timedelta(days=9))
    browser = entered(catalogue, "ann", "decide")
    with catalogue.database.reading() as connection:
        ends = dict(connection.execute(select(AccessRow.kind, AccessRow.ends_at)).all())
    assert ends["session"] <= ends["token"]
    browser.get("/")
    browser.post("/logout")
    assert browser.client.get("/", follow_redirects=False).status_code == 303
    other = entered(catalogue, "bob", "decide")
    other.get("/")
    shut_out(catalogue, "bob")
    assert other.client.get("/", follow_redirects=False).status_code == 303
    assert {one.name: one.until is None for one in reviewers_of(catalogue)} == {"ann": False, "bob": True}


def test_an_administrator_lets_somebody_in_with_a_token_that_is_shown_once(catalogue):
    boss = entered(catalogue, "boss", "administer")
    boss.get("/reviewers")
    answer = boss.post("/reviewers", 200, name="carl", role="look", days="30")
    token = re.search(r"<code>([\w-]{43})</code>", answer.text)[1]
    assert token not in boss.get("/reviewers")
    carl = Browser(catalogue, "", login=True)
    carl.get("/login")
    carl.post("/login", secret=token)
    assert "carl" in carl.get("/")
    assert "expected 1 to 3650" in boss.post("/reviewers", 422, name="carl", role="look", days="0").text
    boss.post("/reviewers/end", name="carl")
    assert carl.client.get("/", follow_redirects=False).status_code == 303


def test_what_one_worker_knows_of_reviewers_all_others_know(catalogue, number):
    one, other = entered(catalogue, "ann", "decide"), Browser(open_catalogue(catalogue.place), "", login=True)
    other.client.cookies = one.client.cookies
    first = number("e_known")
    one.get(f"/encounters/{first}")
    other.page = one.page
    other.decide(first, "confirm", "w_2")
    one.decide(first, "unsure", status=409)
    one.get("/reviewers", 403)
    let_in(catalogue, "ann", "administer", 1)
    other.get("/reviewers")
    other.post("/reviewers/end", name="ann")
    for browser in (one, other):
        assert browser.client.get("/", follow_redirects=False).status_code == 303


WORKER = """
import multiprocessing, os, time

def serve(said):
    from flukeprint.review.application import from_environment

    from_environment()
    said.send(os.getpid())
    time.sleep(60)

if __name__ == "__main__":
    heard, said = multiprocessing.Pipe()
    multiprocessing.get_context("spawn").Process(target=serve, args=(said,)).start()
    print(heard.recv(), flush=True)
    time.sleep(60)
"""


def test_no_worker_outlives_the_server_that_was_killed(catalogue, tmp_path):
    (tmp_path / "server.py").write_text(WORKER)
    settings = ReviewSettings(catalogue.place, "ann").dumped()
    command = [sys.executable, str(tmp_path / "server.py")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | {VARIABLE: settings}) as server:
        worker = int(server.stdout.readline())
        os.kill(worker, 0)
        server.kill()
        deadline = time.monotonic() + 30
        while (outlives := runs(worker)) and time.monotonic() < deadline:
            time.sleep(0.05)
        if outlives:
            os.kill(worker, signal.SIGKILL)
    assert not outlives


def runs(process: int) -> bool:
    """Tell whether a process is there, and no zombie."""
    state = Path(f"/proc/{process}/stat")
    return state.exists() and state.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.parametrize(
    ("name", "role", "days"), [("", "look", 1), ("a\nb", "look", 1), ("a", "king", 1), ("a", "look", 0)]
)
def test_what_makes_no_reviewer_is_refused(catalogue, name, role, days):
    with pytest.raises(FlukeprintError):
        let_in(catalogue, name, role, days)
