from flukeprint.cluster.dvc_project import stamps_of


def test_a_folder_changes_with_its_files_and_not_with_what_python_compiles(tmp_path):
    folder, file = tmp_path / "code", tmp_path / "table"
    for path in (folder / "a.py", folder / "deep" / "b.py", file):
        path.parent.mkdir(exist_ok=True)
        path.write_text("1")
    before = stamps_of([folder, file])
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "a.pyc").write_text("compiled")
    assert stamps_of([folder, file]) == before
    assert {path.name for path in before} == {"code", "a.py", "b.py", "table"}
    (folder / "deep" / "b.py").write_text("22")
    changed = stamps_of([folder, file])
    assert {path for path in changed if changed[path] != before[path]} == {folder / "deep" / "b.py"}
    (folder / "a.py").unlink()
    assert stamps_of([folder, file])[folder] != before[folder]
