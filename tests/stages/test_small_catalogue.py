"""A small catalogue with the recipe `metric`: nobody has many photos, there is no new_whale, perhaps no test/."""

import json
import shutil

import pandas as pd
import pytest
from pipeline_project import new_project, run, run_here, set_params, stages_of

from flukeprint.cli.main import main
from flukeprint.data.labels import NEW_WHALE
from flukeprint.data.sample import SampleSpec, draw_sample

WHALES = SampleSpec(
    photos=(3,) * 12, new_whales=0, test_known=6, test_new=0, duplicates=0, conflicts=0, test_duplicates=0, ship=False
)


@pytest.mark.slow
def test_a_small_catalogue_is_answered_by_similarity_and_needs_no_test_photos(tmp_path, monkeypatch, caplog, capsys):
    photos = tmp_path / "photos"
    photos.mkdir()
    draw_sample(photos, 0, WHALES)
    project = new_project(tmp_path / "project", photos)
    set_params(
        project, recipe="metric", recipes__metric__finetune__epochs=1, ensemble__members=["m1"], select__threshold=15
    )
    run_here(project, monkeypatch, *stages_of(["m1"]))
    assert "select: the small set has 0 class(es)" in caplog.text
    assert "select: 3 known and 1 new whales are set aside for calibration" in caplog.text
    assert "answers are by similarity alone" in caplog.text
    labels = [row.split(" ") for row in pd.read_csv(project / "data/submission.csv")["Id"]]
    assert [(len(set(row)), row[1]) for row in labels] == [(5, NEW_WHALE)] * 6

    shutil.rmtree(photos / "test")
    (photos / "sample_submission.csv").unlink()
    run_here(project, monkeypatch, *stages_of(["m1"]))
    assert (project / "data/submission.csv").read_text() == "Image,Id\n"
    assert json.loads((project / "metrics/evaluation.json").read_text())["queries"] == 6
    run(project, "dvc", "commit", "--force", "--quiet")
    assert json.loads(run(project, "dvc", "status", "--json")) == {}
    monkeypatch.chdir(project)
    main(["results"])
    assert "no photo to label" in capsys.readouterr().out
