"""Wall time from the start of a fresh process to the drop, at the cpu scale on one thread.

make bench-drop [SEEDS="0 1 2"]       about 4 minutes a seed

Every run is a process of its own that does what pretraining does, without Snakemake and without saving. It tells each
logged loss as it comes; the clock is outside, and starts before Python does. The run is stopped once
`abrupt.drop.detect_drop` finds the drop in what was logged. Nothing else should run meanwhile. Written to `--out`:
drop.csv, one row a seed; without a drop the columns of the drop are empty.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from shapes import Shape, scale_config

from abrupt.drop import detect_drop, plateau_mse_masked
from abrupt.files import write_csv
from abrupt.job import prepare_torch

THREADS = 1


def train(shape: Shape, seed: int) -> None:
    """Of the process that is timed: a line "step mse_masked" at the start and whenever a row is logged."""
    device = prepare_torch("cpu", shape.threads)
    trainer = shape.trainer(device, seed=seed)
    column, told = trainer.columns.index("mse_masked"), 0
    print(0, "nan", flush=True)
    while not trainer.finished:
        trainer.advance()
        for row in trainer.rows[told:]:
            print(int(row[0]), row[column], flush=True)
        told = len(trainer.rows)


def watched(command: list[str]) -> Iterator[tuple[float, int, float]]:
    """Seconds since the start, step and loss of each line that `command` prints; closing the iterator kills it.

    Raises CalledProcessError if it fails.
    """
    start = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            for line in process.stdout:
                step, loss = line.split()
                yield time.perf_counter() - start, int(step), float(loss)
        except BaseException:  # GeneratorExit among them
            process.kill()
            raise
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)


def time_to_drop(command: list[str], plateau: float) -> dict[str, Any]:
    """Steps of the drop in the losses that `command` tells, and the seconds at which they were told."""
    seconds, steps, losses = [], [], []
    with closing(watched(command)) as lines:
        for now, step, loss in lines:
            seconds.append(now)
            steps.append(step)
            losses.append(loss)
            if step > 0:
                drop = detect_drop(np.array(steps[1:]), np.array(losses[1:]), plateau)
                if drop.found:
                    break
    at = dict(zip(steps, seconds, strict=True))
    result = {"seconds_to_first_step": seconds[0], "last_step": steps[-1], "seconds": seconds[-1]}
    result["ms_per_step"] = 1000 * (seconds[-1] - seconds[0]) / steps[-1]
    return result | {"onset_step": drop.onset, "seconds_to_onset": at.get(drop.onset)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--scale", default="cpu")
    parser.add_argument("--out", type=Path, default=Path("results/benchmarks"))
    parser.add_argument("--train", type=int, metavar="SEED", help="be the process that is timed")
    arguments = parser.parse_args()
    config = scale_config(arguments.scale)
    if arguments.train is not None:
        train(Shape(arguments.scale, config, THREADS), arguments.train)
        return
    rows = []
    for seed in arguments.seeds:
        command = [sys.executable, __file__, "--scale", arguments.scale, "--train", str(seed)]
        rows.append({"seed": seed, "threads": THREADS, **time_to_drop(command, plateau_mse_masked(config["task"]))})
        table = pd.DataFrame(rows)
        write_csv(arguments.out / "drop.csv", table)
        print(table.tail(1).T.to_string(header=False), flush=True)
    print(table[["ms_per_step", "onset_step", "seconds_to_onset"]].describe().to_string())


if __name__ == "__main__":
    main()
