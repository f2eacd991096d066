"""Write a tidy table of what each head attends to, at every extracted step of one seed."""

from abrupt.job import job_log

with job_log(snakemake.log[0]):
    import pandas as pd

    from abrupt.scores.heads import tidy_shares
    from abrupt.storage.attention_files import read_attention
    from abrupt.storage.files import write_csv
    from abrupt.storage.records import about_result, circumstances, start, write_records

    identity = start(snakemake.params.identity, snakemake.input)
    names = ("head_share", "uniform_share")
    tables = [tidy_shares(*read_attention(path, names)) for path in snakemake.input.attention]
    write_csv(snakemake.output[0], pd.concat(tables))
    write_records(snakemake.output, about_result(identity, circumstances("cpu", snakemake.threads)))
