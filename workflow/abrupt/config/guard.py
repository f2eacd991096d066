"""The guard of trained runs: before anything is scheduled it compares results on the disk with the configuration.

Files decide, not Snakemake's metadata. What was trained by another configuration, or by other code, is never deleted,
retrained or judged in silence: the guard stops and says which runs these are and what can be done.
"""

import csv
import os
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from abrupt.config.results import Results
from abrupt.storage.identity import Identity, configuration
from abrupt.storage.records import WEIGHTS, explained_difference, is_damaged, read_leftover, read_record
from abrupt.storage.store import STORE, Entry, entries, entries_of


@dataclass(frozen=True)
class DifferentRun:
    """A trained run on the disk that is not the one that is asked for; `code_alone` if it can be accepted, since it
    differs in nothing but its code."""

    folder: Path
    differences: list[str]
    code_alone: bool
    cost: str

    def __str__(self) -> str:
        return f"{self.folder}: {'; '.join(self.differences)} ({self.cost})"


def different_runs(results: Results) -> list[DifferentRun]:
    """The runs in the folder of `results` that are of another identity than the configuration asks for.

    Raises UnreadableFileError if a file is there and cannot be opened.
    """
    return [run for curve, wanted in results.training_runs.items() if (run := _different(results, Path(curve), wanted))]


def _different(results: Results, curve: Path, wanted: Identity) -> DifferentRun | None:
    folder = curve.parent
    if not folder.is_dir():
        return None
    # A curve that is gone may have left its record: then Snakemake deleted it, and the store may have the run.
    leftover = None if curve.exists() else read_leftover(curve)
    if leftover and leftover["identity"] != wanted and _is_stored(results, str(curve), leftover["identity"]):
        return _described(results, curve, leftover, wanted)
    for path in (curve, *(Path(path) for path in results.digests if Path(path).parent == folder)):
        if not path.exists():
            continue
        record = read_record(path)
        if record is None and path.suffix == WEIGHTS and is_damaged(path):
            continue  # it is not current, so the run's job is scheduled, which puts it back
        if record is None:
            return DifferentRun(folder, [f"{path.name} does not say what it is of"], False, _cost(results, folder, 0))
        if record["identity"] != wanted:
            return _described(results, curve, record, wanted)
    return None


def _described(results: Results, curve: Path, record: dict[str, Any], wanted: Identity) -> DifferentRun:
    code_alone = configuration(record["identity"]) == configuration(wanted)
    differences = explained_difference(record, wanted)
    if code_alone and not _is_stored(results, str(curve), record["identity"]):
        code_alone = False
        differences.append("which cannot be accepted, since the store does not have all of it")
    steps = record.get("steps", record.get("step", 0))
    return DifferentRun(curve.parent, differences, code_alone, _cost(results, curve.parent, steps))


def _is_stored(results: Results, curve: str, identity: Identity) -> bool:
    """Whether the store has a run of this identity that is as long as is asked for, with the weights at all steps."""
    steps, checkpoint_steps = results.lengths[curve], _checkpoint_steps(results, curve)
    return any(
        entry.step >= steps and all(entry.checkpoint(step).exists() for step in checkpoint_steps)
        for entry in entries_of(Path("results", STORE), identity)
    )


def _checkpoint_steps(results: Results, curve: str) -> list[int]:
    """The steps at which the weights of a run are asked for."""
    weights = [Path(path) for path in results.digests if path.endswith(WEIGHTS)]
    return sorted(int(path.stem.removeprefix("step")) for path in weights if path.parent == Path(curve).parent)


def _cost(results: Results, folder: Path, steps: int) -> str:
    """'50000 steps, 36 minutes': what the run on the disk took, as far as its benchmark says."""
    relative = folder.relative_to(results.folder)
    if relative.parts[0] == "gpt":
        relative = Path("gpt/training", *relative.parts[1:])
    benchmark = Path(results.folder, "benchmarks", relative).with_suffix(".tsv")
    parts = [f"{steps} steps"] if steps else []
    if benchmark.exists():
        with benchmark.open(encoding="utf-8") as stream:
            seconds = sum(float(row["s"]) for row in csv.DictReader(stream, delimiter="\t"))
        parts.append(f"{seconds:.0f} seconds" if seconds < 120 else f"{seconds / 60:.0f} minutes")
    return ", ".join(parts) or "of unknown length"


def refusal(runs: list[DifferentRun], results: Results, arguments: list[str]) -> str:
    """What to say when there are `runs` of another identity; `arguments` are those that Snakemake was called with."""
    name = results.config["name"]
    change = re.search(r"(\w+): \S+ -> (\S+)", "; ".join(runs[0].differences))
    suggested = f"{name}-{change[1]}{change[2]}" if change else f"{name}-new"
    suggested = re.sub(r"[^\w.-]", "", suggested)
    free = next(path for number in range(1, 10**6) if not Path(path := f"{results.folder}.{number}").exists())
    elsewhere = any(argument in ("-d", "--directory") for argument in arguments)
    aside = shlex.join(["mv", *(os.path.abspath(path) if elsewhere else path for path in (results.folder, free))])
    lines = [
        f"{results.folder} holds runs that were trained {'by other code' if _code_alone(runs) else 'otherwise'} than "
        "this configuration asks for (what differs, and what they took):",
        *(f"  {run}" for run in runs),
        "Nothing was changed. The ways on:",
        f"  keep both:   {command(arguments, name=suggested)}",
        f"  train anew:  {aside} && {command(arguments)}",
    ]
    if _code_alone(runs):
        lines += [
            "  accept them, if their first 200 steps give the same numbers again:",
            f"               {command(arguments, accept_code='proved')}",
            f"  accept them unproven, which is written into every file:  {command(arguments, accept_code='unproven')}",
        ]
    return "\n".join(lines)


def _code_alone(runs: list[DifferentRun]) -> bool:
    return all(run.code_alone for run in runs)


def command(arguments: list[str], **config: str) -> str:
    """The command line of `snakemake` with these `arguments`, but with these values in the configuration."""
    pairs = [f"{key}={value}" for key, value in config.items()]
    arguments = [argument for argument in arguments if argument.split("=")[0] not in config]
    # Snakemake reads the last --config alone.
    options = [place for place, argument in enumerate(arguments) if argument in ("--config", "-C")]
    end = arguments.index("--") if "--" in arguments else len(arguments)
    if pairs and options:
        arguments[options[-1] + 1 : options[-1] + 1] = pairs
    elif pairs:
        arguments[end:end] = ["--config", *pairs]
    return shlex.join(["snakemake", *arguments])


def notes(results: Results) -> Iterator[str]:
    """Lines on unfinished progress of another identity, and on checkpoints for which a run must be gone over again."""
    store = Path("results", STORE)
    others = {
        result: entry
        for entry in entries(store)
        if entry.about and entry.step
        for result in entry.about["results"]
        if result in results.training_runs and entry.about["identity"] != results.training_runs[result]
    }
    for curve, wanted in results.training_runs.items():
        own = entries_of(store, wanted)
        if curve in others and not Path(curve).exists() and not any(entry.step for entry in own):
            other = others[curve]
            differences = "; ".join(explained_difference(other.about, wanted))
            yield f"{Path(curve).parent}: progress to step {other.step} stays in {other.folder} ({differences})"
        missing = _missing_checkpoints(results, curve, own) if Path(curve).exists() else []
        if missing:
            yield (
                f"{Path(curve).parent}: the weights at steps {', '.join(map(str, missing))} are not in the store: "
                f"training goes over its first {max(missing)} steps once more if they are needed"
            )


def _missing_checkpoints(results: Results, curve: str, own: list[Entry]) -> list[int]:
    """Steps in the past of a run whose weights are neither among the results nor in the store."""
    step = max((entry.step for entry in own), default=0)
    if not step:
        return []
    folder = Path(curve).parent
    return [
        checkpoint
        for checkpoint in _checkpoint_steps(results, curve)
        if checkpoint <= step
        and not any(entry.checkpoint(checkpoint).exists() for entry in own)
        and not (folder / f"step{checkpoint}.safetensors").exists()
    ]
