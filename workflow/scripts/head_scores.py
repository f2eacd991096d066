"""What each head attends to, at every extracted step of one seed, as a tidy table."""

import pandas as pd

from abrupt.attention_file import read_attention
from abrupt.files import write_csv
from abrupt.head_scores import tidy_shares
from abrupt.identity import pretraining_run
from abrupt.job import job_log

with job_log(snakemake.log[0]):
    params = snakemake.params
    run = pretraining_run(params.task, params.model, params.pretrain, int(snakemake.wildcards.seed))
    names = ("head_share", "uniform_share")
    tables = [tidy_shares(*read_attention(path, names, run)) for path in snakemake.input.attention]
    write_csv(snakemake.output[0], pd.concat(tables))
