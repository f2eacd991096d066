"""Complete the held-out matrices by classical methods: needs no model, so it runs beside pretraining."""

from abrupt.analyses.baselines import measure
from abrupt.job import job_log, prepare_torch
from abrupt.storage.files import write_csv
from abrupt.task import Task

with job_log(snakemake.log[0]):
    params, seed = snakemake.params, int(snakemake.wildcards.seed)
    prepare_torch("cpu", threads=1)
    table = measure(Task(**params.task), seed, **params.options, processes=snakemake.threads)
    write_csv(snakemake.output[0], table.assign(seed=seed))
