"""The conda environments with a real solver and installer, offline, and the smoke scale inside them.

Tried: Snakemake's own calls of `conda`, the solver and the installer on the environment files, all of the smoke scale
in what they install. Not tried, since conda-forge is not reached: that it has builds within the bounds, and that
PyTorch's CUDA build runs.
"""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import pandas as pd
import pytest
import yaml

if os.environ.get("ABRUPT_REQUIRE_ALL") != "1":
    if sys.platform != "linux":
        pytest.skip("the local conda channel is for Linux", allow_module_level=True)
    for module in ("rattler", "conda_package_streaming"):
        pytest.importorskip(module, reason="conda's solver: pip install -r envs/requirements-test.txt")

from local_channel import SITE_PACKAGES, build_channel, installed_with, wheel_files
from offline_conda import install_command

pytestmark = pytest.mark.extended

REPOSITORY = Path(__file__).parents[2]
WORKFLOW = REPOSITORY / "workflow"
FILES = {path.stem: path for path in sorted((REPOSITORY / "envs").glob("*.yaml"))}
INSTALLABLE = [name for name in FILES if name != "train-cuda"]

# Needed without being imported by the name: the interpreter, and the solver that CVXPY is asked for.
NOT_IMPORTED = {"python": "the interpreter", "clarabel": "cvxpy.CLARABEL"}

# Runs in an environment: tries these import statements.
TRY_IMPORTS = """
import json, sys
workflow, statements = json.loads(sys.argv[1])
sys.path.insert(0, workflow)
failures = []
for statement in statements:
    try:
        exec(statement)
    except ImportError as error:
        failures.append(f"{statement}: {error}")
print(json.dumps(failures))
"""


class Conda:
    """The offline `conda` command, its channel, and the environments made with it."""

    def __init__(self, folder: Path):
        packages = {package for name in FILES for package in named(FILES[name])}
        build_channel(folder / "channel", packages)
        self.folder = folder
        self.prefix = folder / "envs"  # for Snakemake's --conda-prefix
        self.variables = {
            **{key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
            "PATH": os.pathsep.join([str(install_command(folder / "command")), os.environ["PATH"]]),
            "LOCAL_CHANNEL": str(folder / "channel"),
            "CONDA_PKGS_DIRS": str(folder / "packages"),
        }

    def create(self, file: Path, *options: str, **variables: str) -> tuple[Path, subprocess.CompletedProcess]:
        """Where the environment is, called as its file is, and how making it went."""
        prefix = self.folder / "by_hand" / file.stem
        command = ["conda", "env", "create", "--file", file, "--prefix", prefix, *options]
        return prefix, run(command, env={**self.variables, **variables})

    def without(self, package: str, file: Path) -> Path:
        """A copy of an environment file that does not name `package`."""
        specification = yaml.safe_load(file.read_text(encoding="utf-8"))
        kept = [line for line in specification["dependencies"] if line.split()[0] != package]
        assert len(kept) == len(specification["dependencies"]) - 1
        copy = self.folder / f"{file.stem}-without-{package}.yaml"
        copy.write_text(yaml.safe_dump({**specification, "dependencies": kept}), encoding="utf-8")
        return copy


def run(command: list, **options) -> subprocess.CompletedProcess:
    """Run a command with stdout and stderr as one text in `.stdout`."""
    command = [shutil.which(command[0], path=options["env"]["PATH"]), *command[1:]]
    return subprocess.run(command, text=True, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options)


def named(file: Path) -> set[str]:
    """The packages that an environment file names."""
    return {line.split()[0] for line in yaml.safe_load(file.read_text(encoding="utf-8"))["dependencies"]}


@pytest.fixture(scope="session")
def conda(tmp_path_factory) -> Conda:
    return Conda(tmp_path_factory.mktemp("conda"))


@pytest.fixture(scope="session")
def jobs(tmp_path_factory):
    """A function that lists the jobs of the whole workflow for a configuration; see list_jobs.py."""

    @cache
    def listed(*config: str) -> list[dict]:
        command = [sys.executable, Path(__file__).with_name("list_jobs.py"), REPOSITORY / "Snakefile", *config]
        folder = tmp_path_factory.mktemp("jobs")
        result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stderr[-3000:]
        return json.loads(result.stdout)

    return listed


@pytest.fixture(scope="session")
def sources(jobs) -> dict[str, set[Path]]:
    """For each environment, the files that are imported in it."""
    found = {name: set() for name in FILES}
    for job in jobs("scale=smoke"):
        found[Path(job["environment"]).stem] |= imported_from(job["code"])
    return found


def imported_from(code: Iterable[str]) -> set[Path]:
    """These scripts and modules, and the modules of the library that they import, directly or not."""
    found, pending = set(), [WORKFLOW / entry if entry.endswith(".py") else module_file(entry) for entry in code]
    while pending:
        if (file := pending.pop()) and file not in found:
            found.add(file)
            for node in imports(file):
                if isinstance(node, ast.ImportFrom):
                    pending += [
                        module_file(node.module),
                        *(module_file(f"{node.module}.{it.name}") for it in node.names),
                    ]
    return found


def imports(file: Path) -> list[ast.Import | ast.ImportFrom]:
    """The imports that happen when a file is run: at its top, or below a `with` there."""
    statements = ast.parse(file.read_text(encoding="utf-8")).body
    statements += [inner for node in statements if isinstance(node, ast.With) for inner in node.body]
    return [node for node in statements if isinstance(node, ast.Import | ast.ImportFrom)]


def module_file(name: str) -> Path | None:
    """The file of a module of the library, None if there is no such module."""
    path = WORKFLOW.joinpath(*name.split("."))
    files = [path.with_suffix(".py"), path / "__init__.py"]
    return next((file for file in files if file.is_file()), None)


@pytest.fixture(scope="session")
def prefixes(conda) -> dict[str, Path]:
    """Each environment that can be installed here, installed."""
    found = {}
    for name in INSTALLABLE:
        found[name], result = conda.create(FILES[name])
        assert result.returncode == 0, result.stdout
    return found


def failed_imports(prefix: Path, files: Iterable[Path]) -> list[str]:
    statements = sorted({ast.unparse(node) for file in files for node in imports(file)})
    arguments = json.dumps([str(WORKFLOW), statements])
    command = [prefix / "bin/python", "-I", "-B", "-c", TRY_IMPORTS, arguments]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def third_party(files: Iterable[Path]) -> set[str]:
    """Top-level names that these files import, but Python's own and ours."""
    names = set()
    for file in files:
        for node in imports(file):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                names.add(node.module.split(".")[0])
    return names - set(sys.stdlib_module_names) - {"abrupt"}


def owners(prefix: Path) -> dict[str, str]:
    """Which package brought each top-level module of an environment."""
    found = {}
    for record in map(json.loads, (path.read_text(encoding="utf-8") for path in prefix.glob("conda-meta/*.json"))):
        for file in record["files"]:
            if file.startswith(SITE_PACKAGES):
                found[Path(file).relative_to(SITE_PACKAGES).parts[0].split(".")[0]] = record["name"]
    return found


def test_every_script_runs_in_an_environment_of_envs(jobs):
    assert {job["environment"] for job in jobs("scale=smoke")} == {str(FILES[name]) for name in INSTALLABLE}


def test_one_key_gives_every_rule_that_loads_a_model_the_cuda_environment(jobs):
    def environments(*config):
        return {job["rule"]: job["environment"] for job in jobs("scale=smoke", *config)}

    cpu, cuda = environments(), environments("conda_pytorch=cuda")
    expected = {str(FILES["train"]): str(FILES["train-cuda"])}
    assert cuda == {rule: expected.get(environment, environment) for rule, environment in cpu.items()} != cpu


@pytest.mark.parametrize("name", INSTALLABLE)
def test_scripts_import_all_they_use_from_their_environment_alone(prefixes, sources, name):
    assert failed_imports(prefixes[name], sources[name]) == []


@pytest.mark.parametrize("name", INSTALLABLE)
def test_environment_names_what_is_imported_and_nothing_else(prefixes, sources, name):
    # What only another package brings could go with its next version.
    brought_by = owners(prefixes[name])
    imported = {brought_by.get(module, module) for module in third_party(sources[name])}
    assert named(FILES[name]) - NOT_IMPORTED.keys() == imported


def test_package_missing_from_a_file_is_named(conda, sources):
    prefix, result = conda.create(conda.without("h5py", FILES["plot"]))
    assert result.returncode == 0, result.stdout
    failures = failed_imports(prefix, sources["plot"])
    assert failures and all(failure.endswith("No module named 'h5py'") for failure in failures)


def test_solver_of_cvxpy_is_there_because_the_file_names_it(conda, prefixes):
    def solvers(prefix):
        command = [prefix / "bin/python", "-I", "-c", "import cvxpy; print(cvxpy.installed_solvers())"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    prefix, result = conda.create(conda.without("clarabel", FILES["analysis"]))
    assert result.returncode == 0, result.stdout
    assert "CLARABEL" in solvers(prefixes["analysis"]) and "CLARABEL" not in solvers(prefix)


def test_pypis_name_for_pytorch_is_not_in_the_channel(conda, tmp_path):
    (tmp_path / "torch.yaml").write_text(
        "channels: [conda-forge]\ndependencies: [python, torch >=2.13]\n", encoding="utf-8"
    )
    prefix, result = conda.create(tmp_path / "torch.yaml")
    assert result.returncode != 0 and not prefix.exists()
    assert "No candidates were found for torch >=2.13" in result.stdout


def test_cuda_environment_asks_for_a_driver(conda):
    prefix, result = conda.create(FILES["train-cuda"], CONDA_OVERRIDE_CUDA="")
    assert result.returncode != 0 and not prefix.exists()
    assert re.search(r"pytorch \S+ would require\n\W+__cuda", result.stdout)


@pytest.mark.parametrize(("name", "build"), [("train", "cpu_"), ("train-cuda", "cuda")])
def test_build_of_pytorch_is_the_files_choice_not_the_machines(conda, name, build):
    # The CUDA build is an empty stand-in: what is tested is the choice between two builds, not the build.
    _, result = conda.create(FILES[name], "--dry-run", CONDA_OVERRIDE_CUDA="13.0")
    assert re.search(rf"^pytorch \S+ {build}", result.stdout, re.MULTILINE)


@pytest.fixture(scope="session")
def driver(tmp_path_factory):
    """A function that gives a Python with these packages and nothing else, least of all PyTorch.

    A job's script falls back on the packages of the Python that drives: from this one it gets none.
    """

    @cache
    def with_packages(*packages: str) -> Path:
        folder = tmp_path_factory.mktemp("driver")
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
        for wheel in installed_with(packages).values():
            for source, place in wheel_files(wheel):
                (folder / place).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, folder / place)
        python = folder / "bin/python"
        assert subprocess.run([python, "-c", "import torch"], capture_output=True, check=False).returncode != 0
        return python

    return with_packages


@pytest.fixture(scope="session")
def in_conda(conda, driver):
    """A function that runs Snakemake with --sdm conda at smoke scale in a checkout."""

    def snakemake(checkout, *options: str, config: Iterable[str] = (), plugins: Iterable[str] = (), **variables: str):
        command = [driver("snakemake", *plugins), "-m", "snakemake", "--sdm", "conda", "--conda-prefix", conda.prefix]
        command += [*options, "--config", "scale=smoke", *config]
        return run(command, cwd=checkout.folder, env={**conda.variables, **variables})

    return snakemake


def test_packages_of_the_users_own_do_not_come_before_those_of_an_environment(in_conda, new_checkout, tmp_path):
    broken = tmp_path / SITE_PACKAGES / "numpy.py"
    broken.parent.mkdir(parents=True)
    broken.write_text("raise ImportError('built for another Python')", encoding="utf-8")
    targets = ("--until", "baselines")
    result = in_conda(new_checkout("own_packages"), "--cores", "2", *targets, PYTHONUSERBASE=str(tmp_path))
    assert result.returncode == 0, result.stdout[-5000:]


@pytest.fixture(scope="session")
def conda_run(in_conda, new_checkout):
    """Everything, from nothing, at smoke scale."""
    checkout = new_checkout("smoke_in_conda")
    result = in_conda(checkout, "--cores", "2")
    assert result.returncode == 0, result.stdout[-5000:]
    return checkout


def verdicts(checkout, claim: int) -> set[str]:
    claims = pd.read_csv(checkout.folder / "results/smoke/claims.csv")
    return set(claims.loc[claims["claim"] == claim, "verdict"])


def test_smoke_scale_runs_in_the_environments_alone(conda, conda_run):
    assert verdicts(conda_run, claim=1) == {"held", "for comparison"}
    made = sorted(path.read_text(encoding="utf-8") for path in conda.prefix.glob("*.yaml"))
    assert made == sorted(FILES[name].read_text(encoding="utf-8") for name in INSTALLABLE)


@pytest.mark.parametrize(
    ("options", "config", "edited"),
    [
        ((), (), False),
        ((), ("conda_pytorch=cuda",), False),
        ((), (), True),
        (("--conda-prefix", "elsewhere"), (), False),
        (("--sdm", "env-modules"), (), False),
        (("--rerun-triggers", "software-env"), ("conda_pytorch=cuda",), False),
    ],
    ids=["again", "CUDA", "edited file", "moved environments", "no conda", "Snakemake's own trigger"],
)
def test_changed_environment_reruns_nothing(in_conda, conda_run, options, config, edited):
    file = conda_run.folder / "envs/train.yaml"
    before = file.read_text(encoding="utf-8")
    file.write_text(before + "# edited\n" * edited, encoding="utf-8")
    result = in_conda(conda_run, "--cores", "2", "-n", *options, config=config)
    file.write_text(before, encoding="utf-8")
    assert result.returncode == 0, result.stdout[-3000:]
    assert ("Nothing to be done" in result.stdout) == ("software-env" not in options)


def test_smoke_scale_runs_in_the_environments_under_slurm(in_conda, new_checkout, slurm):
    checkout = new_checkout("smoke_in_conda_under_slurm")
    plugins = ["snakemake-executor-plugin-slurm"]  # which brings numpy and pandas along
    result = in_conda(checkout, "--profile", "profiles/slurm", plugins=plugins)
    assert result.returncode == 0, result.stdout[-5000:]
    assert verdicts(checkout, claim=1) == {"held", "for comparison"}
