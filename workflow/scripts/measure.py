"""Run analyses (modules of abrupt.analyses) on the checkpoints of one seed."""

from importlib import import_module

from abrupt.job import job_log, prepare_torch
from abrupt.storage.checkpoints import Checkpoints
from abrupt.storage.files import write_csv
from abrupt.storage.identity import pretraining_run
from abrupt.task import Task

with job_log(snakemake.log[0]):
    params, seed = snakemake.params, int(snakemake.wildcards.seed)
    device = prepare_torch(params.device, snakemake.threads)
    run = pretraining_run(params.task, params.model, params.pretrain, seed)
    for name, output in snakemake.output.items():
        analysis, options = import_module(f"abrupt.analyses.{name}"), dict(params.options[name])
        models = Checkpoints(dict(zip(options.pop("steps"), snakemake.input.weights, strict=True)), run, device)
        table = analysis.measure(models, Task(**params.task), seed, **options)
        write_csv(output, table.assign(seed=seed))
