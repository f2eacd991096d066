"""Text is read and written as UTF-8, whatever the locale."""

import ast
from pathlib import Path

import pytest

WORKFLOW = Path(__file__).parents[2] / "workflow"


def opens_text_by_locale(call: ast.Call) -> bool:
    """Whether a call opens a text file without saying its encoding."""
    name = getattr(call.func, "attr", getattr(call.func, "id", None))
    if name not in ("open", "read_text", "write_text", "basicConfig") or ast.unparse(call.func) == "os.open":
        return False
    mode = next((argument.value for argument in call.args[1:] if isinstance(argument, ast.Constant)), "r")
    return "b" not in str(mode) and "encoding" not in {keyword.arg for keyword in call.keywords}


@pytest.mark.parametrize("code", ["open(path)", "path.read_text()", "logging.basicConfig(filename=path)"])
def test_a_call_without_an_encoding_is_found(code):
    assert opens_text_by_locale(ast.parse(code).body[0].value)


def test_no_file_is_opened_in_the_encoding_of_the_locale():
    found = [
        f"{path.relative_to(WORKFLOW)}:{node.lineno}"
        for path in WORKFLOW.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and opens_text_by_locale(node)
    ]
    assert found == []
