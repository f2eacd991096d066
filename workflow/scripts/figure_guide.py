"""A page that says of each figure what it shows, in this run, and where it disagrees with the paper."""

from importlib import import_module

import pandas as pd

from abrupt.figures.guide import guide, guide_html
from abrupt.job import job_log
from abrupt.storage.files import write_atomically
from abrupt.task import Task

with job_log(snakemake.log[0]):
    params, inputs = snakemake.params, snakemake.input
    observations = {
        figure: import_module(f"abrupt.figures.{figure}").observe(pd.read_csv(inputs[figure]), Task(**task))
        for figure, task in params.observed.items()
    }
    table = guide(params.catalogue, pd.read_csv(inputs.claims), observations)
    write_atomically(snakemake.output[0], guide_html(table).encode())
