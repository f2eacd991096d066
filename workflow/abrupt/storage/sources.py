"""Which library files a script imports, so that they can be inputs of its rule."""

import ast
from functools import cache
from pathlib import Path

WORKFLOW = Path(__file__).resolve().parents[2]


@cache
def imported_files(path: Path) -> frozenset[Path]:
    """Files of the `abrupt` package that the Python file at `path` imports, directly or through others."""
    found: set[Path] = set()
    pending = [path]
    while pending:
        new = {file for file in _direct_imports(pending.pop()) if file not in found}
        found |= new
        pending += new
    return frozenset(found)


def _direct_imports(path: Path) -> set[Path]:
    files: set[Path] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names: list[str] = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for name in names:
            files |= _files_of_module(name)
    return files


def _files_of_module(name: str) -> set[Path]:
    """The module's file and the __init__ of the packages it is in; empty for another package's module."""
    parts = name.split(".")
    if parts[0] != "abrupt":
        return set()
    packages = [WORKFLOW.joinpath(*parts[: i + 1], "__init__.py") for i in range(len(parts))]
    module = WORKFLOW.joinpath(*parts).with_suffix(".py")
    return {file for file in (*packages, module) if file.is_file()}
