"""The layout of the library: imports run one way, no circle, and no two modules or classes of one name."""

import ast
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import imports
import pytest
from imports import ROOT, imported_files

# Lowest first. A package imports from itself and from those before its own row.
FLOORS = (
    ("core",),
    ("cluster",),
    ("metrics",),
    ("data",),
    ("pages", "learning", "retrieval"),
    ("scoring", "quality"),
    ("evaluation", "bundle"),
    ("identify",),
    ("catalogue",),
    ("review",),
    ("stages", "cli"),
)
FLOOR = {package: number for number, packages in enumerate(FLOORS) for package in packages}


def package_of(path: Path) -> str:
    parts = path.relative_to(imports.ROOT).parts
    return parts[0] if parts[0] == "stages" or len(parts) == 2 else parts[1]


def modules() -> list[Path]:
    return [path for folder in ("flukeprint", "stages") for path in sorted((imports.ROOT / folder).rglob("*.py"))]


def graph() -> dict[Path, set[Path]]:
    return {path: imported_files(path, types=True) for path in modules()}


def against_the_direction() -> list[str]:
    """Return the imports that run up, or across between packages of one floor."""
    found = []
    for path, targets in graph().items():
        for target in targets:
            here, there = package_of(path), package_of(target)
            if here in FLOOR and here != there and FLOOR[there] >= FLOOR[here]:
                found.append(f"{path.relative_to(imports.ROOT)} -> {target.relative_to(imports.ROOT)}")
    return sorted(found)


def circles() -> list[str]:
    """Return the modules that import themselves, directly or not."""
    edges = graph()

    def reached(start: Path) -> set[Path]:
        seen: set[Path] = set()
        waiting = list(edges[start])
        while waiting:
            current = waiting.pop()
            if current not in seen:
                seen.add(current)
                waiting += edges.get(current, ())
        return seen

    return sorted(str(path.relative_to(imports.ROOT)) for path in edges if path in reached(path))


def test_every_package_has_its_floor():
    packages = {package_of(path) for path in modules()} - {"flukeprint"}
    assert packages == set(FLOOR)


def test_imports_run_one_way():
    assert against_the_direction() == []


def test_no_module_imports_itself_through_others():
    assert circles() == []


def test_no_two_modules_share_a_name():
    # A command or a stage may be called like the module that does its work.
    names = [path.stem for path in modules() if package_of(path) not in ("cli", "stages") and path.stem != "__init__"]
    assert [name for name, count in Counter(names).items() if count > 1] == []


def test_no_two_classes_share_a_name():
    classes = [
        node.name
        for path in modules()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef)
    ]
    assert [name for name, count in Counter(classes).items() if count > 1] == []


@pytest.fixture
def copy(tmp_path, monkeypatch) -> Path:
    for folder in ("flukeprint", "stages"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__", "weights"))
    monkeypatch.setattr(imports, "ROOT", tmp_path)
    return tmp_path


def test_a_planted_import_against_the_direction_is_found(copy):
    path = copy / "flukeprint/core/files.py"
    path.write_text(path.read_text() + "\n\ndef late() -> None:\n    from flukeprint.retrieval import search\n")
    assert "flukeprint/core/files.py -> flukeprint/retrieval/search.py" in against_the_direction()


def test_a_planted_circle_is_found(copy):
    path = copy / "flukeprint/retrieval/gallery.py"
    path.write_text(path.read_text() + "\n\ndef late() -> None:\n    from flukeprint.retrieval import search\n")
    assert {"flukeprint/retrieval/gallery.py", "flukeprint/retrieval/search.py"} <= set(circles())


def test_the_command_line_starts_without_heavy_imports():
    heavy = (
        "torch",
        "pandas",
        "pyarrow",
        "great_expectations",
        "sklearn",
        "scipy",
        "matplotlib",
        "faiss",
        "sqlalchemy",
        "openpyxl",
    )
    code = f"import sys, flukeprint.cli.main; print([name for name in {heavy!r} if name in sys.modules])"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True).stdout
        == "[]\n"
    )


# What opens files with a check of its own that they are regular ones: photos are looked at before links are followed,
# and faults of tables are collected, not raised. The callers of the last three have looked.
OPENERS = [
    *("flukeprint/core/files.py", "flukeprint/data/tables.py", "flukeprint/data/photos.py"),
    *("flukeprint/data/inspection.py", "flukeprint/core/parquet_bounds.py", "flukeprint/bundle/onnx_trial.py"),
    "flukeprint/learning/pretrained_weights.py",
    "flukeprint/catalogue/exported_files.py",  # what it has just made itself
]
OPENING = re.compile(
    r"""path\)?\.open\((?!["']w)|\.read_(bytes|text)\(\)|\b(np\.load|read_csv|safe_open|torch\.load|ZipFile|ParquetFile)\("""
)


def test_files_are_opened_by_what_refuses_pipes_and_devices():
    """Another module may open a file inside `with reading(...)`, which looks first."""
    unchecked = []
    for path in modules():
        lines = path.read_text().splitlines()
        for number, line in enumerate(lines):
            guarded = any("reading(" in before for before in lines[max(0, number - 12) : number + 1])
            name = path.relative_to(imports.ROOT).as_posix()
            if OPENING.search(line) and not guarded and name not in OPENERS:
                unchecked.append(f"{name}: {line.strip()}")
    assert unchecked == []


def test_paths_that_docs_and_code_name_exist():
    sources = [*(ROOT / "docs").glob("*.md"), ROOT / "README.md", ROOT / "params.yaml", *(ROOT / "tests").rglob("*.py")]
    sources += [*modules(), *(ROOT / "bench").glob("*.py")]
    named = re.compile(r"(?<![\w/.])(?:flukeprint|stages|tests|bench|docs)/[\w/.-]+\.(?:py|md|j2)\b")
    gone = {
        (path.name, name) for path in sources for name in named.findall(path.read_text()) if not (ROOT / name).exists()
    }
    assert gone == set()
