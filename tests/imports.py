"""Which modules of ours import which, read from the code, and what of it dvc.yaml lists under a stage's `deps`.

`python tests/imports.py` rewrites the deps of every stage in dvc.yaml; tests/stages/test_dag.py compares them.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
PACKAGES = ("flukeprint", "stages")
# Files that no stage lists, because they change no result, with those of their imports that may: how a stage begins and
# ends, exceptions, and the schema that checks params.yaml. (tests/core/test_params.py: it hands on the values as they
# stand.)
UNLISTED = {
    "flukeprint/core/console.py": (),
    "flukeprint/core/errors.py": (),
    "flukeprint/core/params.py": ("flukeprint/core/recipes.py",),
    "stages/__init__.py": (),
}
# Packages that are listed whole: no stage of learning imports them, so that an edit there trains nothing again.
WHOLE = ("evaluation", "pages", "quality")


def nodes(tree: ast.AST, *, types: bool) -> Iterator[ast.AST]:
    """Walk a module's nodes, with or without what stands under `if TYPE_CHECKING`."""
    for child in ast.iter_child_nodes(tree):
        if types or not (isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"):
            yield child
            yield from nodes(child, types=types)


def module_names(path: Path, *, types: bool = False) -> Iterator[str]:
    """Yield the dotted names that a module imports, of modules and of what is in them."""
    for node in nodes(ast.parse(path.read_text()), types=types):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports are not followed"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
            yield str(node.module)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def file_of(module: str) -> Path | None:
    """Return our file of a dotted name, or None."""
    path = ROOT / Path(*module.split("."))
    found = [name for name in (path.with_suffix(".py"), path / "__init__.py") if name.exists()]
    return found[0] if found and module.split(".", maxsplit=1)[0] in PACKAGES else None


def has_code(path: Path) -> bool:
    """Tell whether a module holds more than a docstring."""
    body = ast.parse(path.read_text()).body
    return len(body) > 1 or not (body and isinstance(body[0], ast.Expr))


def imported_files(path: Path, *, types: bool = False) -> set[Path]:
    """Return the files of ours that a module itself names; a package's `__init__` only if it holds code."""
    found = {file for name in module_names(path, types=types) if (file := file_of(name))} - {path}
    return {file for file in found if file.name != "__init__.py" or has_code(file)}


def packages_of(path: Path) -> set[Path]:
    """Return the `__init__` modules with code that are run before a module is."""
    found = {parent / "__init__.py" for parent in path.parents if (parent / "__init__.py").exists()} - {path}
    return {file for file in found if has_code(file)}


def closure(path: Path) -> set[str]:
    """Return every file of ours that running `path` as a module can import, directly or not, but for UNLISTED."""
    seen: set[Path] = set()
    waiting = [path]
    while waiting:
        current = waiting.pop()
        if (name := str(current.relative_to(ROOT))) in UNLISTED:
            waiting += [ROOT / file for file in UNLISTED[name]]
        elif current not in seen:
            seen.add(current)
            waiting += imported_files(current) | packages_of(current)
    return {str(file.relative_to(ROOT)) for file in seen}


def data_files_of(modules: set[str]) -> set[str]:
    """Return what else the packages of these modules hold, such as templates: they shape the output too."""
    folders = {Path(module).parent for module in modules} - {Path(name) for name in PACKAGES}
    files = {file for folder in folders for file in (ROOT / folder).iterdir() if file.is_file()}
    return {str(file.relative_to(ROOT)) for file in files if file.suffix not in (".py", ".pyc")}


def code_deps(stage: str) -> list[str]:
    """Return what dvc.yaml has to list of our code under a stage's deps."""
    files = closure(ROOT / "stages" / f"{stage}.py")
    files |= data_files_of(files)
    whole = {f"flukeprint/{name}" for name in WHOLE if any(file.startswith(f"flukeprint/{name}/") for file in files)}
    return sorted({file for file in files if str(Path(file).parent) not in whole} | whole)


def write_deps() -> None:
    """Rewrite the code that dvc.yaml lists under each stage's deps; what is not code stays."""
    path = ROOT / "dvc.yaml"
    lines = path.read_text().splitlines()
    for stage in yaml.safe_load(path.read_text())["stages"]:
        start = lines.index("    deps:", lines.index(f"  {stage}:")) + 1
        end = next(n for n in range(start, len(lines)) if not lines[n].startswith("      - "))
        others = [line for line in lines[start:end] if not _is_code(line)]
        lines[start:end] = [f"      - {name}" for name in code_deps(stage)] + others
    path.write_text("\n".join(lines) + "\n")


def _is_code(line: str) -> bool:
    return line.strip(" -").startswith(PACKAGES) and "weights/" not in line


if __name__ == "__main__":
    write_deps()
