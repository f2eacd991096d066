"""What the code behind a result does: a hash of every definition that can run, under its name.

Comments, docstrings, layout, annotations, log messages and the words of errors have no part in it, nor has what
decides only whether, when and where a job works (`WITHOUT_EFFECT`). A definition is a function, a class or an
assignment at the top of a module; it counts if the script, or a definition that counts, mentions it. The hashes are
the same under every version of Python that the workflow supports. Nothing but the standard library is needed.
"""

import ast
import hashlib
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

WORKFLOW = Path(__file__).resolve().parents[2]

# Definitions whose change cannot change a result: they carry values from one place to another, log, or refuse to start.
WITHOUT_EFFECT = (
    "abrupt.config",
    "abrupt.errors",
    "abrupt.job.job_log",
    "abrupt.storage.checkpoints",
    "abrupt.storage.code",
    "abrupt.storage.files.write_atomically",
    "abrupt.storage.identity",
    "abrupt.storage.records",
    "abrupt.storage.store",
    "abrupt.training.cost",
    "abrupt.training.resuming",
)
LOGGERS = {"logger", "logging"}
STATEMENTS = "statements"  # of a module, beside its definitions: they run when it is imported
# Fields of syntax trees that have no effect, or that some versions of Python lack.
IGNORED_FIELDS = {"annotation", "ctx", "kind", "returns", "type_comment", "type_params"}


class Module:
    """The definitions of one Python file, and what its names stand for."""

    def __init__(self, name: str, path: Path):
        self.name = name
        self.definitions: dict[str, list[ast.stmt]] = {}
        self.statements: list[ast.stmt] = []
        self.imports: dict[str, tuple[str, str | None]] = {}
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in tree.body:
            names = list(_defined_names(node))
            for defined in names:
                self.definitions.setdefault(defined, []).append(node)
            if not names and not isinstance(node, ast.Import | ast.ImportFrom) and not _is_text(node):
                self.statements.append(node)
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    self.imports[alias.asname or alias.name] = (alias.name, None)
            elif isinstance(node, ast.ImportFrom) and node.module:
                for alias in node.names:
                    self.imports[alias.asname or alias.name] = (node.module, alias.name)


@cache
def module(name: str) -> Module | None:
    """The module of the library, or the script, called `name`; None for one of another package."""
    if name.startswith("scripts/"):
        return Module(name, WORKFLOW / name)
    if name.split(".")[0] != "abrupt":
        return None
    path = WORKFLOW.joinpath(*name.split("."))
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return Module(name, path) if path.is_file() else None


def _defined_names(node: ast.stmt) -> Iterator[str]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield node.name
    elif isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        for target in targets:
            yield from (part.id for part in ast.walk(target) if isinstance(part, ast.Name))


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _is_logging(node: ast.AST) -> bool:
    call = node.value if isinstance(node, ast.Expr) else None
    target = call.func if isinstance(call, ast.Call) else None
    return isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name) and target.value.id in LOGGERS


def _parts(node: ast.AST) -> Iterator[tuple[str, Any]]:
    """The fields of a syntax tree's node that have an effect, by name."""
    if isinstance(node, ast.Raise):  # which error it is, not its words
        yield "exc", node.exc.func if isinstance(node.exc, ast.Call) else node.exc
        return
    for name, value in ast.iter_fields(node):
        if isinstance(value, list):
            value = [item for item in value if not (_is_logging(item) or _is_text(item))]
            if isinstance(node, ast.JoinedStr):  # Python 3.12 ends some format specifications with an empty text
                value = [item for item in value if not (isinstance(item, ast.Constant) and item.value == "")]
        if name not in IGNORED_FIELDS and value not in (None, []):
            yield name, value


def _effective(node: Any) -> Any:
    """A syntax tree as nested lists of names and constants, without what has no effect."""
    if isinstance(node, list):
        return [_effective(item) for item in node]
    if isinstance(node, ast.Constant):
        return [type(node.value).__name__, ascii(node.value)]
    if isinstance(node, ast.AST):
        return [type(node).__name__, *([name, _effective(value)] for name, value in _parts(node))]
    return node


def _walk(node: Any) -> Iterator[ast.AST]:
    """Every node of a syntax tree that has an effect."""
    if isinstance(node, list):
        for item in node:
            yield from _walk(item)
    elif isinstance(node, ast.AST):
        yield node
        for _, value in _parts(node):
            yield from _walk(value)


def _hash(nodes: Iterable[ast.AST]) -> str:
    return hashlib.sha256(repr([_effective(node) for node in nodes]).encode()).hexdigest()[:12]


def _mentioned(node: ast.AST, where: Module) -> Iterator[tuple[str, str | None]]:
    """What a piece of code of the module `where` mentions: (module, definition), or (module, None) for all of it."""
    aliases_of_modules = set()
    for part in _walk(node):
        if isinstance(part, ast.Attribute) and isinstance(part.value, ast.Name):
            found = _imported(where, part.value.id)
            if found and found[1] is None:
                aliases_of_modules.add(part.value)
                yield found[0], part.attr
    for part in _walk(node):
        if isinstance(part, ast.Name) and part not in aliases_of_modules:
            if part.id in where.definitions:
                yield where.name, part.id
            elif found := _imported(where, part.id):
                yield found


def _imported(where: Module, name: str) -> tuple[str, str | None] | None:
    """What an imported name stands for: (module, definition), or (module, None) for a module."""
    if name not in where.imports:
        return None
    source, attribute = where.imports[name]
    if attribute is not None and module(f"{source}.{attribute}"):
        return f"{source}.{attribute}", None
    return (source, attribute) if module(source) else None


def _without_effect(name: str) -> bool:
    return any(name == excluded or name.startswith(f"{excluded}.") for excluded in WITHOUT_EFFECT)


@cache
def definitions_behind(*entries: str) -> dict[str, str]:
    """Name -> hash of each definition that can run in a job; `entries` are the script, as scripts/<name>.py, and the
    modules that it imports by a name it is given, as abrupt.analyses.<name>."""
    found: dict[str, str] = {}
    pending: list[tuple[str, str | None]] = [(entry, None) for entry in entries]
    seen = set()
    while pending:
        source, wanted = pending.pop()
        where = module(source)
        if where is None or (source, wanted) in seen:
            continue
        seen.add((source, wanted))
        if wanted is None:
            pending += [(source, STATEMENTS), *((source, name) for name in where.definitions)]
            continue
        if wanted == STATEMENTS:
            nodes, name = where.statements, f"{source}: {STATEMENTS}"
        elif wanted in where.definitions:
            nodes, name = where.definitions[wanted], f"{source}.{wanted}"
        elif target := _imported(where, wanted):  # the module passes on what it imported
            pending.append(target)
            continue
        else:
            continue
        if _without_effect(f"{source}.{wanted}") or not nodes:
            continue
        found[name] = _hash(nodes)
        pending.append((source, STATEMENTS))
        for node in nodes:
            pending += _mentioned(node, where)
    return dict(sorted(found.items()))
