"""Make the table behind one figure and draw the figure from that table alone."""

from importlib import import_module

from abrupt.figures import style
from abrupt.job import job_log
from abrupt.storage.files import write_csv
from abrupt.task import Task

with job_log(snakemake.log[0]):
    figure = import_module(f"abrupt.figures.{snakemake.rule}")
    inputs = {name: paths for name, paths in snakemake.input.items() if name != "library"}
    task = Task(**snakemake.params.task)
    table = figure.tidy(task, **inputs)
    write_csv(snakemake.output.csv, table)
    style.save(figure.draw(table, task), snakemake.output.pdf, snakemake.output.png)
