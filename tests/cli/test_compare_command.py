"""`flukeprint compare`: what arrives at the library; tests/evaluation/test_comparison.py compares real runs."""

from pathlib import Path

import pytest

from flukeprint.cli.main import main

LIBRARY = "flukeprint.evaluation.comparison"


@pytest.mark.parametrize(
    ("options", "scorer", "printed"),
    [([], "ensemble", "words\n"), (["--scorer", "gallery"], "gallery", "words\n"), (["--json"], "ensemble", "{}\n")],
)
def test_two_files_a_scorer_and_a_form(stub, capsys, options, scorer, printed):
    calls = stub(f"{LIBRARY}.compare_files", "found")
    worded = {"text": stub(f"{LIBRARY}.as_text", "words"), "json": stub(f"{LIBRARY}.as_json", "{}")}
    main(["compare", "a.csv", *options, "b.csv"])
    assert calls == [((Path("a.csv"), Path("b.csv"), scorer), {})]
    assert worded["json" if "--json" in options else "text"] == [(("found",), {})]
    assert capsys.readouterr().out == printed
