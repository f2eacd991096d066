"""Jobs side by side: processes that train the same shape at the same time, and their steps a second together."""

import multiprocessing
import re
import time
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from pathlib import Path

import numpy as np
import torch
from shapes import Shape
from tqdm import tqdm

from abrupt.job import prepare_torch

Layout = tuple[int, int]  # jobs, threads of each


def layouts(cores: int) -> list[Layout]:
    """One thread each for up to `cores` jobs (up to eight, then doubling), and one job with two threads."""
    counts = [jobs for jobs in range(1, cores + 1) if jobs <= 8 or jobs == cores or jobs & (jobs - 1) == 0]
    return [*((jobs, 1) for jobs in counts), *([(1, 2)] if cores > 1 else [])]


def steps_per_second(shape: Shape, of_layouts: list[Layout], turns: int, seconds: float, device: str) -> np.ndarray:
    """Steps a second of all jobs together, (layout, turn): layouts take turns, `seconds` each. The processes live
    through all turns, and those that a layout does not need wait for a message meanwhile."""
    context = multiprocessing.get_context("spawn")
    barriers = {jobs: context.Barrier(jobs) for jobs, _ in of_layouts}
    pipes = []
    for _ in range(max(barriers)):
        ours, theirs = context.Pipe()
        context.Process(target=_work, args=(shape, seconds, barriers, theirs, device), daemon=True).start()
        theirs.close()  # the worker has its own, so that the pipe ends with it
        pipes.append(ours)
    rates = np.empty((len(of_layouts), turns))
    for pipe in pipes:
        pipe.recv()  # it is ready
    for turn in tqdm(range(turns), desc="jobs", unit="round"):
        for index, (jobs, threads) in enumerate(of_layouts):
            for pipe in pipes[:jobs]:
                pipe.send((jobs, threads))
            rates[index, turn] = sum(pipe.recv() for pipe in pipes[:jobs])
    for pipe in pipes:
        pipe.close()
    return rates


def _work(shape: Shape, seconds: float, barriers: dict[int, Barrier], pipe: Connection, device: str) -> None:
    """Of one process: train for `seconds` whenever told to, together with the others, and send steps a second."""
    prepare_torch(device, threads=1)
    trainer = shape.trainer(device)
    trainer.advance()
    pipe.send("ready")
    while True:
        try:
            jobs, threads = pipe.recv()
        except EOFError:
            return
        torch.set_num_threads(threads)
        trainer.advance()  # with the threads that it has now
        barriers[jobs].wait()
        start, steps = time.perf_counter(), 0
        while time.perf_counter() - start < seconds:
            trainer.advance()
            steps += 1
        pipe.send(steps / (time.perf_counter() - start))


def peak_memory(shape: Shape) -> float:
    """The most resident memory (MB) of a process of one thread that makes two updates and evaluates, on a CPU."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_fill, args=(shape, theirs), daemon=True)
    process.start()
    theirs.close()
    peak = ours.recv()
    process.join()
    return peak


def _fill(shape: Shape, pipe: Connection) -> None:
    prepare_torch("cpu", threads=1)
    trainer = shape.trainer("cpu")
    for _ in range(2):
        trainer.advance()
    trainer.objective.evaluate(trainer.model, trainer.eval_batches)
    # Not getrusage: a new process has its parent's peak there.
    (peak,) = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    pipe.send(int(peak) / 1024)
