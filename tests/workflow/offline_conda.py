"""The part of the `conda` command that Snakemake calls, on py-rattler (solver and installer) and the local channel.

Set LOCAL_CHANNEL to the channel's folder and CONDA_PKGS_DIRS to one for unpacked packages.
"""

import argparse
import asyncio
import json
import os
import sys
from pathlib import Path

import rattler
import yaml
from rattler.exceptions import SolverError

CONDA_VERSION = "25.0.0"  # Snakemake asks for 24.7.1
ACTIVATE = 'export CONDA_PREFIX="$1" PATH="$1/bin:$PATH"\n'


def install_command(folder: Path) -> Path:
    """Lay `conda` and `activate` below `folder`; gives the folder to put on the PATH."""
    (folder / "bin").mkdir(parents=True)
    conda = folder / "bin/conda"
    conda.write_text(
        f'#!/bin/sh\nexec "{sys.executable}" "{Path(__file__).resolve()}" "{folder}" "$@"\n', encoding="utf-8"
    )
    conda.chmod(0o755)
    (folder / "bin/activate").write_text(ACTIVATE, encoding="utf-8")
    return folder / "bin"


async def solve(environment: Path) -> list[rattler.RepoDataRecord]:
    """The packages for an environment file. Raises rattler's SolverError if there are none."""
    specification = yaml.safe_load(environment.read_text(encoding="utf-8"))
    if specification["channels"] != ["conda-forge"]:
        raise SystemExit(f"{environment}: only the channel conda-forge is here")
    cache = Path(os.environ["CONDA_PKGS_DIRS"])
    return await rattler.solve(
        sources=[Path(os.environ["LOCAL_CHANNEL"]).as_uri()],
        specs=specification["dependencies"],
        gateway=rattler.Gateway(cache_dir=cache / "repodata"),
        virtual_packages=rattler.VirtualPackage.detect(rattler.VirtualPackageOverrides.from_env()),
    )


async def create(environment: Path, prefix: Path, dry_run: bool) -> None:
    """Solve an environment file, print the packages, and install them at `prefix` unless this is a dry run."""
    records = await solve(environment)
    print("\n".join(f"{record.name.normalized} {record.version} {record.build}" for record in records))
    if not dry_run:
        await rattler.install(records, prefix, cache_dir=os.environ["CONDA_PKGS_DIRS"], show_progress=False)


def main(folder: str, arguments: list[str]) -> int:
    """The exit status of `conda` with these arguments; `folder` is where it is installed."""
    answers = {
        "--version": f"conda {CONDA_VERSION}",
        "info --json": json.dumps({"conda_prefix": folder, "platform": str(rattler.Subdir.current())}),
        "config --get channel_priority --json": json.dumps({"get": {"channel_priority": "strict"}}),
        "clean -y --tarballs": "",  # the unpacked packages serve the next environment
    }
    if (question := " ".join(arguments)) in answers:
        print(answers[question])
        return 0
    parser = argparse.ArgumentParser(prog="conda")
    parser.add_argument("command", nargs=2, choices=["env", "create"])
    parser.add_argument("--file", type=Path, required=True)
    parser.add_argument("--prefix", type=Path, required=True)
    parser.add_argument("--dry-run", action="store_true")
    parser.add_argument("--quiet", "--no-default-packages", action="store_true")
    options = parser.parse_args(arguments)
    try:
        asyncio.run(create(options.file, options.prefix, options.dry_run))
    except SolverError as error:
        print(error)
        return 1
    return 0


if __name__ == "__main__":
    status = main(sys.argv[1], sys.argv[2:])
    sys.stdout.flush()
    # Without Python's own shutdown, in which py-rattler's threads sometimes crash.
    os._exit(status)
