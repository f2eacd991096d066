import json
import subprocess
import sys
from pathlib import Path

import pytest

from abrupt.storage.sources import imported_files

WORKFLOW = Path(__file__).resolve().parents[2] / "workflow"
SCRIPTS = sorted(path.name for path in (WORKFLOW / "scripts").glob("*.py"))
FIGURES = sorted(path.name for path in (WORKFLOW / "abrupt/figures").glob("*.py") if path.name != "__init__.py")
OF_TRAINING = {"abrupt/training/loop.py", "abrupt/models/bert.py", "abrupt/sampling.py"}

# Runs the import statements of each script in turn, each with no module of the library loaded before, and
# prints the files that were loaded. One process for all: loading PyTorch takes seconds.
REALLY_IMPORTED = """
import ast, json, sys
from pathlib import Path
loaded = {}
for script in map(Path, sys.argv[1:]):
    for name in [name for name in sys.modules if name.split(".")[0] == "abrupt"]:
        del sys.modules[name]
    tree = ast.parse(script.read_text())
    tree.body = [node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))]
    exec(compile(tree, script, "exec"), {})
    modules = [module for name, module in sys.modules.items() if name.split(".")[0] == "abrupt"]
    # A folder without __init__.py is a package without a file.
    loaded[script.name] = sorted(module.__file__ for module in modules if module.__file__)
print(json.dumps(loaded))
"""


@pytest.fixture(scope="module")
def really_imported():
    command = [sys.executable, "-c", REALLY_IMPORTED, *(str(WORKFLOW / "scripts" / script) for script in SCRIPTS)]
    done = subprocess.run(command, env={"PYTHONPATH": str(WORKFLOW)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return {script: {Path(file) for file in files} for script, files in json.loads(done.stdout).items()}


def names(path):
    return {file.relative_to(WORKFLOW).as_posix() for file in imported_files(path)}


def test_there_are_scripts():
    assert "pretrain.py" in SCRIPTS and "figure.py" in SCRIPTS


@pytest.mark.parametrize("script", SCRIPTS)
def test_files_found_are_those_that_python_imports(really_imported, script):
    assert imported_files(WORKFLOW / "scripts" / script) == really_imported[script]


def test_edit_of_the_training_loop_reruns_training():
    for script in ("pretrain.py", "component_run.py"):
        assert OF_TRAINING | {"abrupt/task.py"} <= names(WORKFLOW / "scripts" / script)


@pytest.mark.parametrize("figure", ["scripts/figure.py", *(f"abrupt/figures/{name}" for name in FIGURES)])
def test_edit_of_training_model_or_sampling_reruns_no_figure(figure):
    assert not names(WORKFLOW / figure) & OF_TRAINING


def test_edit_of_a_figure_or_an_analysis_does_not_rerun_training():
    files = names(WORKFLOW / "scripts/pretrain.py") | names(WORKFLOW / "scripts/component_run.py")
    assert not [file for file in files if file.startswith(("abrupt/figures/", "abrupt/analyses/"))]


def test_edit_of_the_claims_reruns_what_a_reviewer_reads_alone():
    users = [script for script in SCRIPTS if "abrupt/claims/loss.py" in names(WORKFLOW / "scripts" / script)]
    assert users == ["claims.py", "claims_of_runs.py", "figure_guide.py"]


@pytest.mark.parametrize(
    ("statement", "files"),
    [
        ("import abrupt.errors", {"abrupt/__init__.py", "abrupt/errors.py"}),
        ("import abrupt.errors as e", {"abrupt/__init__.py", "abrupt/errors.py"}),
        ("from abrupt import errors", {"abrupt/__init__.py", "abrupt/errors.py"}),
        ("from abrupt.errors import InputError", {"abrupt/__init__.py", "abrupt/errors.py"}),
        (
            "from abrupt.figures import task",
            {"abrupt/__init__.py", "abrupt/figures/__init__.py", "abrupt/figures/task.py"},
        ),
        ("def f():\n    from abrupt import errors", {"abrupt/__init__.py", "abrupt/errors.py"}),
        ("import json, abruptly.errors", set()),
        ("x = 'import abrupt.errors'", set()),
    ],
)
def test_forms_of_import(tmp_path, statement, files):
    (tmp_path / "script.py").write_text(statement)
    # A figure module may import more: what matters is that it is found itself.
    found = names(tmp_path / "script.py")
    assert files <= found and bool(files) == bool(found)


def test_imports_of_imports_are_followed(tmp_path):
    (tmp_path / "script.py").write_text("from abrupt.claims import findings")
    assert "abrupt/scores/drop.py" in names(tmp_path / "script.py")
