"""What each head attends to, at every extracted step of one seed, as a tidy table."""

import pandas as pd

from abrupt.job import job_log
from abrupt.scores.heads import tidy_shares
from abrupt.storage.attention_files import read_attention
from abrupt.storage.files import write_csv
from abrupt.storage.identity import pretraining_run

with job_log(snakemake.log[0]):
    params = snakemake.params
    run = pretraining_run(params.task, params.model, params.pretrain, int(snakemake.wildcards.seed))
    names = ("head_share", "uniform_share")
    tables = [tidy_shares(*read_attention(path, names, run)) for path in snakemake.input.attention]
    write_csv(snakemake.output[0], pd.concat(tables))
