"""The shapes that are measured, and trainers of them: each is a configuration of the workflow."""

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from abrupt.config.settings import Config, merged
from abrupt.models.bert import Bert, build_bert, initialise
from abrupt.models.components import COMPONENTS, parameter_names
from abrupt.sampling import make_generator
from abrupt.task import Task
from abrupt.training.loop import Schedule, Trainer
from abrupt.training.objectives import MatrixCompletion

ROOT = Path(__file__).resolve().parents[2]
CORES = len(os.sched_getaffinity(0))


def scale_config(scale: str, changes: Config | None = None) -> Config:
    """The workflow's configuration at a scale, with `changes`."""
    base = yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8"))
    over = yaml.safe_load((ROOT / f"workflow/scales/{scale}.yaml").read_text(encoding="utf-8")) or {}
    return merged(merged(base, over), changes or {})


@dataclass(frozen=True)
class Shape:
    """One configuration, trained with `threads` and measured in up to `turns` turns. `components`, `variants` and
    `parts` say whether the component runs, other ways to do the same and the parts of a step are measured too."""

    name: str
    config: Config
    threads: int
    turns: int = 15
    components: bool = False
    variants: bool = False
    parts: bool = False

    @property
    def task(self) -> Task:
        return Task(**self.config["task"])

    @property
    def schedule(self) -> Schedule:
        return Schedule.from_config(self.config["pretrain"], self.config["pretrain"]["steps"])

    def model(self, seed: int = 0) -> Bert:
        """As pretraining draws it."""
        sizes = self.config["model"]
        model = build_bert(self.task, sizes)
        names = [name for name, _ in model.named_parameters()]
        stds = sizes["embedding_init_std"], sizes["weight_init_std"]
        initialise(model, names, make_generator(seed, "init"), *stds)
        return model

    def trainer(self, device: str, component: str | None = None, seed: int = 0) -> Trainer:
        """Of pretraining, or of the run of one component (from fresh weights: speed does not depend on them)."""
        model = self.model(seed)
        names = [name for name, _ in model.named_parameters()]
        if component:
            names = parameter_names(model, COMPONENTS[component])
        stream = "components" if component else "pretrain"
        return Trainer(model, names, MatrixCompletion(self.task), self.schedule, seed, stream, device)


def all_shapes(everything: bool) -> list[Shape]:
    """Small shapes on one thread, the paper's on all cores: there a step takes seconds, so unless `everything` (on a
    GPU) they have few turns and few contenders."""
    narrow = {"model": {"num_hidden_layers": 4, "num_attention_heads": 8}, "pretrain": {"batch_size": 32}}
    batch32 = {"pretrain": {"batch_size": 32}}
    shapes = [
        Shape("smoke", scale_config("smoke"), 1, components=True, parts=True),
        Shape("cpu", scale_config("cpu"), 1, components=True, variants=True, parts=True),
        Shape("narrow_heads", scale_config("cpu", narrow), 1, components=True, variants=True, parts=True),
        Shape("paper_batch32", scale_config("paper", batch32), CORES, turns=5, components=True, parts=True),
        Shape("paper", scale_config("paper"), CORES, turns=3),
    ]
    if everything:
        shapes = [replace(shape, turns=15, components=True, variants=True, parts=True) for shape in shapes]
    return shapes


def work_axes(config: Config) -> dict[str, dict[int, Config]]:
    """What the cost is measured against: axis -> value -> changes to `config`."""
    ratio = config["model"]["intermediate_size"] // config["model"]["hidden_size"]

    def square(size: int) -> dict[str, Any]:
        return {"task": {"rows": size, "columns": size}, "model": {"max_position_embeddings": size**2}}

    return {
        "matrix_size": {size: square(size) for size in (5, 7, 9, 12, 15)},
        "batch_size": {batch: {"pretrain": {"batch_size": batch}} for batch in (16, 32, 64, 128, 256)},
        "width": {
            width: {"model": {"hidden_size": width, "intermediate_size": ratio * width}} for width in (32, 64, 128, 256)
        },
        "depth": {depth: {"model": {"num_hidden_layers": depth}} for depth in range(1, 7)},
    }


def core_counts() -> list[int]:
    """1, 2, 4, ... and all cores."""
    return sorted({*(2**power for power in range(CORES.bit_length()) if 2**power <= CORES), CORES})
