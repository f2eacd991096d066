"""Make the table behind one figure and draw the figure from that table alone."""

from importlib import import_module

from abrupt.figures import style
from abrupt.files import write_csv
from abrupt.job import job_log

with job_log(snakemake.log[0]):
    figure = import_module(f"abrupt.figures.{snakemake.rule}")
    inputs = {name: paths for name, paths in snakemake.input.items() if name != "library"}
    table = figure.tidy(snakemake.params.task, **inputs)
    write_csv(snakemake.output.csv, table)
    style.save(figure.draw(table, snakemake.params.task), snakemake.output.pdf, snakemake.output.png)
