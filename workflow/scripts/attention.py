"""Extract attention maps and head scores of each checkpoint, for each mask pattern, to an HDF5 file of its own."""

import json
import platform

import h5py
import numpy as np
import torch

from abrupt.analyses.attention import DIMENSIONS, KEY_GROUPS, QUERY_GROUPS, extract, mask_patterns
from abrupt.job import job_log, prepare_torch
from abrupt.storage.attention_files import write_attention
from abrupt.storage.checkpoints import load_model
from abrupt.storage.identity import pretraining_run
from abrupt.task import Task

with job_log(snakemake.log[0]):
    params, seed = snakemake.params, int(snakemake.wildcards.seed)
    device = prepare_torch(params.device, snakemake.threads)
    task = Task(**params.task)
    run = pretraining_run(params.task, params.model, params.pretrain, seed)
    batches = {name: batch.to(device) for name, batch in mask_patterns(task, params.matrices, seed).items()}
    versions = {"python": platform.python_version(), "torch": torch.__version__}
    versions |= {"numpy": np.__version__, "h5py": h5py.__version__}
    attributes = {
        "seed": seed,
        "matrices": params.matrices,
        "query_groups": QUERY_GROUPS,
        "key_groups": KEY_GROUPS,
        "versions": json.dumps(versions),
    }
    for step, weights, output in zip(params.steps, snakemake.input.weights, snakemake.output, strict=True):
        model = load_model(weights, run).to(device)
        arrays = {name: extract(model, task, batch, params.samples)._asdict() for name, batch in batches.items()}
        write_attention(output, arrays, DIMENSIONS, {**attributes, "step": step}, run)
