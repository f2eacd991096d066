"""A page that says of each figure what it shows, in this run, and where it disagrees with the paper."""

import pandas as pd

from abrupt.files import write_atomically
from abrupt.guide import guide, guide_html
from abrupt.job import job_log

with job_log(snakemake.log[0]):
    table = guide(snakemake.params.catalogue, pd.read_csv(snakemake.input.claims))
    write_atomically(snakemake.output[0], guide_html(table).encode())
