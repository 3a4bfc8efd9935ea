"""`flukeprint results`."""

import pytest

from flukeprint.cli.main import main


def test_the_text_is_printed_as_the_library_words_it(stub, capsys):
    calls = stub("flukeprint.evaluation.results.results_text", "MAP@5 0.5\nreports/evaluation/index.html")
    main(["results"])
    main(["results", "--all"])
    assert calls == [((), {"members": False}), ((), {"members": True})]
    assert capsys.readouterr().out == "MAP@5 0.5\nreports/evaluation/index.html\n" * 2


def test_without_a_run_the_error_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="error: .*dvc repro"):
        main(["results"])
