"""Complete the held-out matrices by classical methods. This needs no model, so it runs beside pretraining."""

from abrupt.job import job_log

with job_log(snakemake.log[0]):
    from abrupt.analyses.baselines import measure
    from abrupt.job import prepare_torch
    from abrupt.storage.files import write_csv
    from abrupt.storage.records import about_result, circumstances, start, write_records
    from abrupt.task import Task

    identity = start(snakemake.params.identity, snakemake.input)
    prepare_torch("cpu", threads=1)
    task, seed = Task(**identity["task"]), identity["seed"]
    table = measure(task, seed, **identity["options"], processes=snakemake.threads)
    write_csv(snakemake.output[0], table.assign(seed=seed))
    write_records(snakemake.output, about_result(identity, circumstances("cpu", snakemake.threads)))
