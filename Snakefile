"""Abrupt learning in transformers: from nothing to the paper's figures and claims.

snakemake --cores 8                        everything, at the cpu scale
snakemake --cores 8 --config scale=smoke   the same in minutes, small
snakemake --cores 8 figures                the figures alone
snakemake --cores 8 paper_figures          the figures of other models too, each trained from scratch
"""

from snakemake.utils import min_version

min_version("9.19")


# Of this repository, wherever Snakemake is called from.
configfile: f"{workflow.basedir}/config.yaml"


include: "workflow/rules/common.smk"


report: "workflow/report/workflow.rst"


wildcard_constraints:
    scale=config["scale"],
    seed="|".join(map(str, config["seeds"])),
    step=r"\d+",
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
    other_scale,


include: "workflow/rules/pretrain.smk"
include: "workflow/rules/components.smk"
include: "workflow/rules/attention.smk"
include: "workflow/rules/analyses.smk"
include: "workflow/rules/runs.smk"
include: "workflow/rules/figures.smk"
include: "workflow/rules/review.smk"


onstart:
    write_config()


onsuccess:
    remove_finished_states()
    write_costs()


rule all:
    """Every figure, and the claims with their verdicts."""
    default_target: True
    input:
        rules.figures.input,
        rules.claims.output,
        rules.figure_guide.output,


rule other_scale:
    """Matches a path of a scale that is not configured, to say so."""
    input:
        refuse_other_scale,
    output:
        "results/{other_scale}/{path}",
    wildcard_constraints:
        other_scale="|".join(scale for scale in SCALES if scale != config["scale"]),
        path=".+",
