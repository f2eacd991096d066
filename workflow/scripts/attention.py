"""Extract attention maps and head scores of one checkpoint, for each mask pattern, to HDF5."""

import json
import platform

import h5py
import numpy as np
import torch

from abrupt.analyses.attention import DIMENSIONS, KEY_GROUPS, QUERY_GROUPS, extract, mask_patterns
from abrupt.attention_file import write_attention
from abrupt.checkpoint import load_model
from abrupt.identity import pretraining_run
from abrupt.job import job_log, prepare_torch
from abrupt.task import Task

with job_log(snakemake.log[0]):
    params, seed = snakemake.params, int(snakemake.wildcards.seed)
    device = prepare_torch(params.device, snakemake.threads)
    task = Task(**params.task)
    run = pretraining_run(params.task, params.model, params.pretrain, seed)
    model = load_model(snakemake.input.weights, run).to(device)
    batches = mask_patterns(task, params.matrices, seed)
    versions = {"python": platform.python_version(), "torch": torch.__version__}
    versions |= {"numpy": np.__version__, "h5py": h5py.__version__}
    write_attention(
        snakemake.output[0],
        {name: extract(model, task, batch.to(device), params.samples)._asdict() for name, batch in batches.items()},
        DIMENSIONS,
        {
            "seed": seed,
            "step": int(snakemake.wildcards.step),
            "matrices": params.matrices,
            "query_groups": QUERY_GROUPS,
            "key_groups": KEY_GROUPS,
            "versions": json.dumps(versions),
        },
        run,
    )
