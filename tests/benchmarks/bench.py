"""How fast training is: against the authors' loop, against what the machine can do, and against the work.

make bench                                            everything: about 15 minutes on 2 cores
PYTHONPATH=workflow python tests/benchmarks/bench.py --quick   the small shapes, roughly, in 2 minutes

Nothing else should run meanwhile. What is compared takes turns in one process (`timing.py`): a ratio is the median
over turns of the ratio within a turn. Written to `--out`: bench.csv (tidy), bench.md, bench.png, bench.pdf and
machine.json.

| benchmark                                            | contenders                                                 |
|------------------------------------------------------|------------------------------------------------------------|
| training                                             | pretraining, the authors' loop, the run of each component, |
|                                                      | pretraining compiled and in other precisions, parts of our |
|                                                      | step, square matrix products as the ceiling                |
| matrix_size, batch_size, width, depth, threads       | pretraining at the cpu scale, one number varied            |
| jobs                                                 | several processes at once, in steps a second together      |
| memory                                               | pretraining, a process for each shape                      |
"""

import argparse
import dataclasses
import json
import math
import os
import platform
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
import transformers
from baseline import EVAL_MATRICES, AuthorsLoop, as_pytorch_comes
from flops import baseline_flops, component_flops, forward_flops
from jobs import layouts, peak_memory, steps_per_second
from shapes import CORES, Shape, all_shapes, core_counts, work_axes
from timing import Contender, Pace, interleaved, spread

from abrupt.config.settings import Config, merged
from abrupt.errors import InputError
from abrupt.figures.style import save
from abrupt.job import prepare_torch
from abrupt.models.components import COMPONENTS
from abrupt.storage.files import write_atomically, write_csv
from abrupt.training.cost import training_flops
from abrupt.training.loop import check_compiler
from report import draw, markdown

# Of pretraining: how a trainer may be configured to take less time for nearly the same.
VARIANTS = {
    "cpu": {"bfloat16": {"precision": "bfloat16"}, "compiled": {"compile": True}},
    "cuda": {
        "tf32": {"precision": "tf32"},
        "bfloat16": {"precision": "bfloat16"},
        "compiled": {"compile": True},
        "tf32_compiled": {"precision": "tf32", "compile": True},
        "bfloat16_compiled": {"precision": "bfloat16", "compile": True},
    },
}
GEMM_SIZES = {"cpu": 2048, "cuda": 8192}
CEILINGS = {"float32": "sgemm", "tf32": "tf32_gemm", "bfloat16": "bf16_gemm"}  # of each precision


@dataclasses.dataclass(frozen=True)
class Effort:
    """How long to measure: `seconds` of each contender in a turn, `job_seconds` of each layout of jobs; at most
    `turns` turns of a shape, `axis_turns` of an axis and of the jobs."""

    seconds: float = 0.3
    job_seconds: float = 2.0
    turns: int = 15
    axis_turns: int = 7


QUICK = Effort(seconds=0.05, job_seconds=0.5, turns=3, axis_turns=3)


def training_contenders(shape: Shape, device: str) -> list[Contender]:
    """Pretraining, the authors' loop, and what else the shape asks for; ceilings last."""
    schedule, trainer = shape.schedule, shape.trainer(device)
    work = (trainer.model.config, schedule.batch_size)
    length = shape.task.num_entries
    betas = (schedule.adam_beta1, schedule.adam_beta2)
    authors = AuthorsLoop(shape.model(), shape.task, schedule.batch_size, schedule.learning_rate, betas, device)
    contenders = [
        Contender("pretraining", trainer.advance, shape.threads, training_flops(*work, length), "authors_loop"),
        Contender("authors_loop", authors.advance, shape.threads, baseline_flops(*work, EVAL_MATRICES, length)),
    ]
    if shape.components:
        for name in COMPONENTS:
            run = shape.trainer(device, name).advance
            flops = component_flops(name, *work, length)
            contenders.append(Contender(name, run, shape.threads, flops, "pretraining"))
    if shape.variants:
        for name, changes in variants(device).items():
            changed = dataclasses.replace(shape, config=merged(shape.config, {"pretrain": changes}))
            run, ceiling = changed.trainer(device).advance, CEILINGS[changed.schedule.precision]
            flops = training_flops(*work, length)
            contenders.append(Contender(name, run, shape.threads, flops, "authors_loop", ceiling))
    if shape.parts:
        contenders += part_contenders(shape, device)
    return contenders + gemm_contenders(shape.threads, device)


def variants(device: str) -> dict[str, Config]:
    """Those of VARIANTS that can be measured here."""
    try:
        check_compiler()
    except InputError as error:
        print(f"Nothing is compiled: {error}")
        return {name: changes for name, changes in VARIANTS[device].items() if "compile" not in changes}
    return VARIANTS[device]


def part_contenders(shape: Shape, device: str) -> list[Contender]:
    """The parts of our step, each on its own: what is not among them is logging, and reading the loss."""
    trainer = shape.trainer(device)
    model, objective, schedule = trainer.model, trainer.objective, shape.schedule
    sizes = (model.config, schedule.batch_size, shape.task.num_entries)
    evaluation = forward_flops(model.config, schedule.eval_matrices, shape.task.num_entries)
    batch = objective.sample(schedule.batch_size, 0, "pretrain", 0, device)

    def predict() -> torch.Tensor:
        return F.mse_loss(model(batch.tokens), batch.target.flatten(1))

    def differentiate() -> None:
        trainer.optimizer.zero_grad()
        predict().backward()

    differentiate()  # the optimiser has something to do from its first turn on, and leaves the weights as they are
    trainer.optimizer.param_groups[0]["lr"] = 0.0
    parts: dict[str, tuple[Callable[[], Any], float]] = {
        "sampling": (lambda: objective.sample(schedule.batch_size, 0, "pretrain", 0, device), math.nan),
        "forward": (predict, forward_flops(*sizes)),
        "forward_backward": (differentiate, training_flops(*sizes)),
        "optimiser": (trainer.optimizer.step, math.nan),
        "evaluation": (lambda: objective.evaluate(model, trainer.eval_batches), evaluation),
    }
    return [Contender(name, run, shape.threads, flops, "pretraining") for name, (run, flops) in parts.items()]


def gemm_contenders(threads: int, device: str) -> list[Contender]:
    """Large square matrix products: float32, bfloat16, and on a GPU float32 through TF32 too."""
    precisions = {"sgemm": (torch.float32, "highest"), "bf16_gemm": (torch.bfloat16, "highest")}
    if device == "cuda":
        precisions["tf32_gemm"] = (torch.float32, "high")
    return [
        Contender(name, _gemm(dtype, precision, device), threads, 2.0 * GEMM_SIZES[device] ** 3)
        for name, (dtype, precision) in precisions.items()
    ]


def _gemm(dtype: torch.dtype, precision: str, device: str) -> Callable[[], None]:
    size = GEMM_SIZES[device]
    left, right = torch.randn(2, size, size, device=device).to(dtype)
    product = torch.empty_like(left)

    def run() -> None:
        with as_pytorch_comes():
            torch.set_float32_matmul_precision(precision)
            torch.mm(left, right, out=product)

    return run


def axis_contenders(shape: Shape, axis: str, device: str) -> list[Contender]:
    """Pretraining of `shape` with the number called `axis` varied, and the ceiling with each number of threads."""
    if axis == "threads":
        varied = {threads: dataclasses.replace(shape, threads=threads) for threads in core_counts()}
    else:
        changes = work_axes(shape.config)[axis]
        varied = {
            value: dataclasses.replace(shape, config=merged(shape.config, over)) for value, over in changes.items()
        }
    contenders = []
    for value, member in varied.items():
        trainer, batch_size = member.trainer(device), member.schedule.batch_size
        flops = training_flops(trainer.model.config, batch_size, member.task.num_entries)
        contenders.append(Contender("pretraining", trainer.advance, member.threads, flops, value=value))
    threads = sorted({contender.threads for contender in contenders})
    return contenders + [gemm_contenders(count, device)[0] for count in threads]


def rows_of(benchmark: str, shape: str, contenders: list[Contender], times: np.ndarray) -> list[dict[str, Any]]:
    """The table of one group; `times` in ms, (contender, turn). `ratio` is the reference's time over one's own."""
    by_name = {contender.name: index for index, contender in enumerate(contenders)}
    ceilings = {(c.name, c.threads): c.flops / times[index] for index, c in enumerate(contenders)}
    rows = []
    for contender, own in zip(contenders, times, strict=True):
        row = {
            "benchmark": benchmark,
            "shape": shape,
            "contender": contender.name,
            "value": contender.value,
            "jobs": 1,
            "threads": contender.threads,
            "turns": len(own),
            **dict(zip(("ms", "ms_q1", "ms_q3"), spread(own), strict=True)),
            "flops": contender.flops,
            "gflops_per_second": np.median(contender.flops / own) / 1e6,
            "fraction_of_ceiling": np.median(contender.flops / own / ceilings[contender.ceiling, contender.threads]),
        }
        if contender.reference:
            reference = by_name[contender.reference]
            ratios = spread(times[reference] / own)
            row |= {
                "reference": contender.reference,
                **dict(zip(("ratio", "ratio_q1", "ratio_q3"), ratios, strict=True)),
                "flop_bound": contenders[reference].flops / contender.flops,
            }
        rows.append(row)
    return rows


def job_rows(shape: Shape, turns: int, seconds: float, device: str) -> list[dict[str, Any]]:
    """Jobs side by side; `ms` is wall time over the steps of all jobs, `ratio` against one job on one thread."""
    of_layouts = layouts(CORES) if device == "cpu" else [(jobs, 1) for jobs in (1, 2, 4)]
    times = 1000 / steps_per_second(shape, of_layouts, turns, seconds, device)
    rows = []
    for (jobs, threads), own in zip(of_layouts, times, strict=True):
        rows.append(
            {
                "benchmark": "jobs",
                "shape": shape.name,
                "contender": "pretraining",
                "value": jobs,
                "jobs": jobs,
                "threads": threads,
                "turns": turns,
                **dict(zip(("ms", "ms_q1", "ms_q3"), spread(own), strict=True)),
                "reference": "one job, one thread",
                **dict(zip(("ratio", "ratio_q1", "ratio_q3"), spread(times[0] / own), strict=True)),
            }
        )
    return rows


def memory_row(shape: Shape) -> dict[str, Any]:
    """Peak memory of a process that makes two updates and evaluates."""
    peak = peak_memory(shape)
    about = {"benchmark": "memory", "shape": shape.name, "contender": "pretraining", "jobs": 1, "threads": 1}
    return {**about, "turns": 1, "peak_rss_mb": peak}


def run_suite(shapes: list[Shape], axes_shape: Shape, axes: list[str], effort: Effort, device: str) -> pd.DataFrame:
    """Everything, as one table: `shapes` against the authors' loop, then the cost of `axes_shape` along `axes`."""
    rows = []
    # Otherwise a step that was compiled for too many shapes goes on uncompiled.
    torch._dynamo.config.fail_on_recompile_limit_hit = True
    # On a GPU a step is over before the clock is read well.
    pace = Pace(effort.seconds, warm_up=3, least_steps=200) if device == "cuda" else Pace(effort.seconds)
    for shape in shapes:
        torch.compiler.reset()
        contenders = training_contenders(shape, device)
        times = interleaved(contenders, min(shape.turns, effort.turns), pace, shape.name)
        rows += rows_of("training", shape.name, contenders, times)
    for axis in axes:
        contenders = axis_contenders(axes_shape, axis, device)
        times = interleaved(contenders, effort.axis_turns, pace, axis)
        rows += rows_of(axis, axes_shape.name, contenders, times)
    rows += job_rows(axes_shape, effort.axis_turns, effort.job_seconds, device)
    if device == "cpu":
        rows += [memory_row(shape) for shape in shapes]
    return pd.DataFrame(rows)


def machine() -> dict[str, Any]:
    """What the numbers depend on besides the code."""
    build = torch.__config__.show()
    return {
        "cpu": _cpu_model(),
        "cores": CORES,
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "platform": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "blas": [part.strip(" -") for part in build.splitlines() if "Math Kernel" in part or "MKL-DNN" in part]
        + re.findall(r"BLAS_INFO=\w+", build),
        "omp_num_threads": os.environ.get("OMP_NUM_THREADS"),
    }


def _cpu_model() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = {line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")}
    return ", ".join(sorted(names)) or platform.machine()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("results/benchmarks"))
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"])
    parser.add_argument("--quick", action="store_true", help="small shapes, few turns: rough numbers in 2 minutes")
    arguments = parser.parse_args()
    device = prepare_torch(arguments.device, threads=1)
    load_before = os.getloadavg()[0]  # others at work: 0 on an idle machine
    shapes = all_shapes(everything=device == "cuda")
    if arguments.quick:
        shapes = [shape for shape in shapes if shape.threads == 1]
    cpu_scale = next(shape for shape in shapes if shape.name == "cpu")
    axes = [*work_axes(cpu_scale.config), *(["threads"] if device == "cpu" else [])]
    table = run_suite(shapes, cpu_scale, axes, QUICK if arguments.quick else Effort(), device)
    about = {**machine(), "device": device, "quick": arguments.quick, "load_before": load_before}
    arguments.out.mkdir(parents=True, exist_ok=True)
    on = {name: about[name] for name in ("cpu", "cores", "gpu", "torch")}
    write_csv(arguments.out / "bench.csv", table.assign(**on))
    write_atomically(arguments.out / "machine.json", (json.dumps(about, indent=2) + "\n").encode())
    text = markdown(table, about)
    write_atomically(arguments.out / "bench.md", text.encode())
    save(draw(table), arguments.out / "bench.pdf", arguments.out / "bench.png")
    print(text)


if __name__ == "__main__":
    main()
