"""Wall time from the start of a fresh process to the drop, at the cpu scale on one thread.

make bench-drop [SEEDS="0 1 2"] [PRECISIONS="float32 bfloat16"] [STEPS=12000]

A run takes about 4 minutes, 12 to step 12000.

Every run is a process of its own that does what pretraining does, without Snakemake and without saving. It tells each
logged loss as it comes; the clock is outside, and starts before Python does. The run is stopped once
`abrupt.scores.drop.detect_drop` finds the drop in what was logged, or at STEPS if they are given: then what follows the
drop can be compared too. Nothing else should run meanwhile. Written to `--out`: drop.csv, one row for each precision
and seed; without a drop the columns of the drop are empty.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from shapes import Shape, scale_config

from abrupt.job import prepare_torch
from abrupt.scores.drop import detect_drop
from abrupt.storage.files import write_csv

THREADS = 1


def train(shape: Shape, seed: int, device: str) -> None:
    """Of the process that is timed: a line "step mse_masked" at the start and whenever a row is logged."""
    device = prepare_torch(device, shape.threads)
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


def time_to_drop(command: list[str], plateau: float, steps: int | None = None) -> dict[str, Any]:
    """Steps of the drop in the losses that `command` tells, and the seconds at which they were told. Watches until
    the drop is found, or for `steps`."""
    told = {}
    with closing(watched(command)) as lines:
        for now, step, loss in lines:
            told[step] = now, loss
            if step > 0:
                drop = detect_drop(np.array(list(told)[1:]), np.array([loss for _, loss in told.values()][1:]), plateau)
                if drop.found if steps is None else step >= steps:
                    break
    start, end = told[0][0], told[step][0]
    return {
        "seconds_to_first_step": start,
        "last_step": step,
        "seconds": end,
        "ms_per_step": 1000 * (end - start) / step,
        "onset_step": drop.onset,
        "seconds_to_onset": told[drop.onset][0] if drop.found else None,
        # Of a curve that ends within its fall they would say little.
        **({"completion_step": drop.completion, "final_mse_masked": drop.final} if steps else {}),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--precisions", nargs="+", default=["float32"], choices=["float32", "tf32", "bfloat16"])
    parser.add_argument("--steps", type=int, help="watch for so many instead of stopping at the drop")
    parser.add_argument("--scale", default="cpu")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--out", type=Path, default=Path("results/benchmarks"))
    parser.add_argument("--train", action="store_true", help="be the process that is timed")
    arguments = parser.parse_args()
    rows = []
    for precision, seed in product(arguments.precisions, arguments.seeds):
        shape = Shape(arguments.scale, scale_config(arguments.scale, {"pretrain": {"precision": precision}}), THREADS)
        if arguments.train:
            train(shape, seed, arguments.device)
            return
        options = ["--scale", arguments.scale, "--precisions", precision, "--seeds", str(seed)]
        options += ["--device", arguments.device, "--train"]
        drop = time_to_drop([sys.executable, __file__, *options], shape.task.entry_variance, arguments.steps)
        rows.append({"precision": precision, "seed": seed, "threads": THREADS, **drop})
        table = pd.DataFrame(rows)
        write_csv(arguments.out / "drop.csv", table)
        print(table.tail(1).T.to_string(header=False), flush=True)
    print(table.groupby("precision")[["ms_per_step", "onset_step", "seconds_to_onset"]].median().to_string())


if __name__ == "__main__":
    main()
