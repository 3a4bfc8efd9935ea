"""`flukeprint export`: what arrives at the library; tests/bundle exports a real model."""

from pathlib import Path

import pytest

from flukeprint.cli.main import main


@pytest.mark.parametrize(
    ("options", "gallery", "pictures"),
    [([], None, True), (["--gallery", "other", "--without-pictures"], Path("other"), False)],
)
def test_the_folder_and_the_options_arrive(stub, tmp_path, capsys, options, gallery, pictures):
    (tmp_path / "members").mkdir()
    (tmp_path / "members/m1.onnx").write_bytes(bytes(1_450_000))
    (tmp_path / "README.md").write_bytes(bytes(50_000))
    calls = stub("flukeprint.bundle.export.export_bundle", 7)
    main(["export", str(tmp_path), *options])
    assert calls == [((tmp_path, gallery), {"pictures": pictures})]
    assert capsys.readouterr().out == f"{tmp_path}: 1.5 MB, pictures of 7 photos. Read its README.md.\n"
