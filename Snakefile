"""Abrupt learning in transformers: from nothing to the paper's figures and claims.

snakemake --cores 8                        everything, at the cpu scale
snakemake --cores 8 --config scale=smoke   the same in minutes, small
snakemake --cores 8 figures                the figures alone
snakemake --cores 8 paper_figures          the figures of other models too, each trained from scratch
snakemake --cores 1 prune                  what the store holds that no results need
"""

from snakemake.utils import min_version

min_version("9.19")


# Of this repository, wherever Snakemake is called from.
configfile: f"{workflow.basedir}/config.yaml"


include: "workflow/rules/common.smk"


report: "workflow/report/workflow.rst"


wildcard_constraints:
    seed="|".join(map(str, config["seeds"])),
    component="|".join(config["components"]["names"]),


localrules:
    all,
    figures,
    sweeps,
    mixture,
    larger,
    gaussian,
    gpt,
    paper_figures,


include: "workflow/rules/pretrain.smk"
include: "workflow/rules/components.smk"
include: "workflow/rules/attention.smk"
include: "workflow/rules/analyses.smk"
include: "workflow/rules/runs.smk"
include: "workflow/rules/figures.smk"
include: "workflow/rules/review.smk"


onstart:
    write_config()
    if not workflow.local_exec:
        machine.tell_why_jobs_wait(logger.warning)


rule all:
    """Every figure, and the claims with their verdicts."""
    default_target: True
    input:
        for_all(rules.figures.input, rules.claims.output, rules.paper_figures.input),
