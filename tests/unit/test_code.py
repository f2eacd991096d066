"""What of the code has a part in a result's identity, and what has none."""

import ast
import re
from pathlib import Path

import pytest

from abrupt.storage import code

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = '''"""A script."""

with open("log") as log:
    from abrupt.curves import style
    from abrupt.sums import total

    print(total([1, 2]), style.save(log))
'''
SUMS = '''"""Sums."""

import logging
from abrupt.numbers import START as BEGIN

logger = logging.getLogger(__name__)
UNUSED = 7


def total(values: list, scale: int = 2) -> int:
    """Their sum."""
    result: int = BEGIN
    for value in values:  # one by one
        logger.info("adding %s", value)
        if value < 0:
            raise ValueError(f"{value} is negative")
        result += scale * value
    return result


def other():
    return UNUSED
'''
LIBRARY = {
    "scripts/add.py": SCRIPT,
    "abrupt/__init__.py": "",
    "abrupt/sums.py": SUMS,
    "abrupt/numbers.py": "START = 1\nEND = 2\n",
    "abrupt/curves/__init__.py": "",
    "abrupt/curves/style.py": "WIDTH = 3\n\n\ndef save(log):\n    return WIDTH\n\n\ndef load(log):\n    return 1\n",
    "abrupt/errors.py": "class InputError(Exception):\n    pass\n",
}


@pytest.fixture
def behind(tmp_path, monkeypatch):
    """The definitions behind scripts/add.py of `LIBRARY`, with texts in one of its files replaced."""
    monkeypatch.setattr(code, "WORKFLOW", tmp_path)

    def definitions(name="abrupt/sums.py", **replaced):
        for path, content in LIBRARY.items():
            target = tmp_path / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(content)
        content = LIBRARY[name]
        for old, new in replaced.items():
            assert old in content
            content = content.replace(old, new)
        (tmp_path / name).write_text(content)
        code.module.cache_clear()
        code.definitions_behind.cache_clear()
        return code.definitions_behind("scripts/add.py")

    yield definitions
    code.module.cache_clear()
    code.definitions_behind.cache_clear()


def changed(before, after):
    return {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}


def test_what_a_script_reaches_is_followed_through_imports_aliases_and_constants(behind):
    assert behind().keys() == {
        "scripts/add.py: statements",
        "abrupt.sums.total",
        "abrupt.numbers.START",
        "abrupt.curves.style.save",
        "abrupt.curves.style.WIDTH",
    }


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("  # one by one", "  # each"),
        ('"""Their sum."""', '"""The sum of `values`."""'),
        ('"""Sums."""', '"""Additions."""'),
        ("\n\ndef other", "\n\n\n# more\ndef other"),
        ("result += scale * value", "result += (\n            scale\n            * value\n        )"),
        ("values: list, scale: int = 2) -> int", "values, scale=2)"),
        ("result: int", "result: float"),
        ("values: list", "values: UNUSED"),
        ('logger.info("adding %s", value)', 'logger.warning("%s", other())'),
        ('        logger.info("adding %s", value)\n', ""),
        ('f"{value} is negative"', 'f"{other()} are negative", 3'),
        ("UNUSED = 7", "UNUSED = 8"),
    ],
    ids=[
        "comment",
        "docstring",
        "module docstring",
        "layout between functions",
        "layout of a line",
        "annotations of arguments",
        "annotation of a variable",
        "annotation that mentions a definition",
        "log message",
        "logging at all",
        "words of an error",
        "what the script does not reach",
    ],
)
def test_what_has_no_effect_changes_no_hash(behind, old, new):
    assert behind(**{old: new}) == behind()


@pytest.mark.parametrize(
    ("name", "old", "new", "expected"),
    [
        ("abrupt/sums.py", "scale * value", "value * scale", {"abrupt.sums.total"}),
        ("abrupt/sums.py", "scale: int = 2", "scale: int = 3", {"abrupt.sums.total"}),
        ("abrupt/sums.py", "raise ValueError", "raise KeyError", {"abrupt.sums.total"}),
        (
            "abrupt/sums.py",
            "UNUSED = 7",
            "UNUSED = 7\nprint(UNUSED)",
            {"abrupt.sums.UNUSED", "abrupt.sums: statements"},
        ),
        ("abrupt/numbers.py", "START = 1", "START = 0", {"abrupt.numbers.START"}),
        ("abrupt/numbers.py", "START = 1", "START = 1\nSTART += END", {"abrupt.numbers.START", "abrupt.numbers.END"}),
        ("abrupt/curves/style.py", "WIDTH = 3", "WIDTH = 4", {"abrupt.curves.style.WIDTH"}),
        ("scripts/add.py", "[1, 2]", "[1, 3]", {"scripts/add.py: statements"}),
    ],
)
def test_a_change_of_what_is_computed_is_named(behind, name, old, new, expected):
    assert changed(behind(), behind(name, **{old: new})) == expected


def test_names_that_a_module_passes_on_are_followed(behind):
    passed_on = behind("abrupt/curves/style.py", **{"WIDTH = 3\n": "from abrupt.numbers import END as WIDTH\n"})
    assert "abrupt.numbers.END" in passed_on


def test_what_is_without_effect_is_not_followed(behind, monkeypatch):
    monkeypatch.setattr(code, "WITHOUT_EFFECT", ("abrupt.sums.total", "abrupt.curves"))
    assert behind().keys() == {"scripts/add.py: statements"}


def test_every_name_without_effect_exists():
    for name in code.WITHOUT_EFFECT:
        module, _, definition = name.rpartition(".")
        package = code.WORKFLOW.joinpath(*name.split("."))
        assert package.is_dir() or code.module(name) or definition in code.module(module).definitions, name


SAMPLE = """
from dataclasses import dataclass, field
from functools import cache

@dataclass(frozen=True)
class Point:
    x: float
    y: list[int] = field(default_factory=list)

    @property
    def text(self) -> str:
        return f"{self.x:>{len(self.y)}}, {self.y!r:{'^'}{9}} " "and" f"{self.x = :}" f"{{}}"

@cache
def kind(point, /, *rest, strict=False, **more):
    def nested(n): return lambda m=n: m ** 2 if m else ...
    match point:
        case Point(x=0) | [0, *_]: return None
        case {"x": x, **others} if (n := len(others)) > 1: return [*rest, x, n, "\\u00e9", b"\\x00", 1e-5, 2j]
    try:
        async def later(): return [await y async for y in rest if (yield)]
    except* ValueError: del more
    return nested(-1)(), {**more}, rest[1:, ::2], not strict
"""


def test_hashes_are_the_same_under_every_python(tmp_path):
    # Fixed here, since the versions that are supported draw up different trees for some of it.
    (tmp_path / "sample.py").write_text(SAMPLE, encoding="utf-8")
    definitions = code.Module("sample", tmp_path / "sample.py").definitions
    assert {name: code._hash(nodes) for name, nodes in definitions.items()} == {
        "Point": "0d74b662dace",
        "kind": "c4cfdfe35895",
    }


def test_no_rule_has_code_that_has_no_part_in_an_identity():
    for path in [ROOT / "Snakefile", *(ROOT / "workflow/rules").glob("*.smk")]:
        assert not re.findall(r"^\s*(?:shell|run|notebook|wrapper)\s*:", path.read_text(encoding="utf-8"), re.M), path


def test_the_library_is_imported_only_in_ways_that_are_followed():
    for path in (ROOT / "workflow").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                followed = not any(alias.name.startswith("abrupt.") and not alias.asname for alias in node.names)
            else:
                followed = not isinstance(node, ast.ImportFrom) or (node.level == 0 and node.names[0].name != "*")
            assert followed, f"{path}, line {node.lineno}"
