"""The conda environment files, without a solver: what they ask for, and that pip's pins agree."""

import re
from pathlib import Path

import pytest
import yaml
from conda_forge import PYPI_NAMES
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

ENVS = Path(__file__).resolve().parents[2] / "envs"
FILES = {path.stem: path for path in sorted(ENVS.glob("*.yaml"))}


def dependencies(name):
    """Name, version bounds and build of each line under `dependencies`."""
    return [(*line.split(), "")[:3] for line in yaml.safe_load(FILES[name].read_text(encoding="utf-8"))["dependencies"]]


PINS = {
    requirement.name: Version(str(requirement.specifier).removeprefix("=="))
    for requirement in map(
        Requirement, re.findall(r"^\w.*$", (ENVS / "requirements.txt").read_text(encoding="utf-8"), flags=re.MULTILINE)
    )
}
PACKAGES = sorted({(name, bounds) for env in FILES for name, bounds, _ in dependencies(env)})


def test_there_is_an_environment_for_each_kind_of_work():
    assert set(FILES) == {"train", "train-cuda", "analysis", "plot"}


@pytest.mark.parametrize("env", FILES)
def test_conda_forge_is_the_only_channel(env):
    assert yaml.safe_load(FILES[env].read_text(encoding="utf-8")).keys() == {"channels", "dependencies"}
    assert yaml.safe_load(FILES[env].read_text(encoding="utf-8"))["channels"] == ["conda-forge"]


@pytest.mark.parametrize(("package", "bounds"), PACKAGES)
def test_each_version_has_a_lower_and_an_upper_bound(package, bounds):
    assert sorted(bound.operator for bound in SpecifierSet(bounds)) == ["<", ">="]


def test_a_package_has_the_same_bounds_in_every_environment():
    assert len(PACKAGES) == len({package for package, _ in PACKAGES})


@pytest.mark.parametrize(("package", "bounds"), [item for item in PACKAGES if item[0] != "python"])
def test_the_version_that_pip_installs_is_within_the_bounds(package, bounds):
    assert PINS[PYPI_NAMES.get(package, package)] in SpecifierSet(bounds)


def test_everything_that_pip_installs_for_scripts_is_in_an_environment():
    for_scripts = {name for name in PINS if not name.startswith("snakemake")}
    assert for_scripts == {PYPI_NAMES.get(package, package) for package, _ in PACKAGES} - {"python"}


def test_the_cuda_environment_differs_in_the_build_of_pytorch_alone():
    cpu, cuda = dependencies("train"), dependencies("train-cuda")
    assert [line[:2] for line in cpu] == [line[:2] for line in cuda]
    assert [(name, build) for name, _, build in cpu if build] == [("pytorch", "cpu*")]
    assert [(name, build) for name, _, build in cuda if build] == [("pytorch", "cuda*")]


def test_no_figure_environment_has_pytorch():
    assert "pytorch" not in {name for name, *_ in dependencies("plot")}


@pytest.mark.parametrize("profile", [path.parent.name for path in ENVS.parent.glob("profiles/*/profile.yaml")])
def test_results_say_what_must_run_again_in_every_profile(profile):
    settings = yaml.safe_load((ENVS.parent / "profiles" / profile / "profile.yaml").read_text(encoding="utf-8"))
    assert settings["rerun-triggers"] == ["mtime"]


def test_make_takes_the_pythons_that_the_environments_are_bounded_to():
    makefile = (ENVS.parent / "Makefile").read_text(encoding="utf-8")
    lowest, above = (Version(".".join(re.findall(r"\d+", text))) for text in re.findall(r"\(3, \d+\)", makefile))
    assert SpecifierSet(dict(PACKAGES)["python"]) == SpecifierSet(f">={lowest},<{above}")


def test_no_pin_file_stands_in_for_a_solver():
    assert not list(ENVS.glob("*.pin.txt"))
