"""What each head attends to, at every extracted step of one seed, as a tidy table."""

import pandas as pd

from abrupt.attention_file import read_attention
from abrupt.files import write_csv
from abrupt.head_scores import tidy_shares
from abrupt.job import job_log

with job_log(snakemake.log[0]):
    tables = [tidy_shares(*read_attention(path, ("head_share", "uniform_share"))) for path in snakemake.input.attention]
    write_csv(snakemake.output[0], pd.concat(tables))
