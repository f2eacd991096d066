"""Run one analysis (a module of abrupt.analyses) on the checkpoints of one seed."""

from importlib import import_module

import pandas as pd

from abrupt.checkpoint import load_model
from abrupt.files import write_csv
from abrupt.identity import pretraining_run
from abrupt.job import job_log, prepare_torch
from abrupt.task import Task, sample_batch

with job_log(snakemake.log[0]):
    params, seed = snakemake.params, int(snakemake.wildcards.seed)
    device = prepare_torch(params.device, snakemake.threads)
    analysis = import_module(f"abrupt.analyses.{snakemake.wildcards.analysis}")
    task = Task(**params.task)
    run = pretraining_run(params.task, params.model, params.pretrain, seed)
    batch = sample_batch(task, params.matrices, seed, "analysis").to(device)
    tables = []
    for step, path in zip(params.steps, snakemake.input.weights, strict=True):
        model = load_model(path, run).to(device)
        table = analysis.measure(model, task, batch, **params.options)
        tables.append(table.assign(seed=seed, step=step))
    write_csv(snakemake.output[0], pd.concat(tables))
