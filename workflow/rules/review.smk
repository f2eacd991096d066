"""What a reviewer reads: the claims, with verdicts.

Needs: training curves, head scores and analyses of every seed, tables behind figures. Gives: claims.csv, and the same
as a page; a guide to the figures.
"""

OF_RUNS = ("sweeps", "mixture", "larger", "gaussian", "gpt")


def observed(*targets):
    """Figure -> task, of those that say in words what their tables show."""
    figures = [figure for figure in figures_of(*targets) if CATALOGUE[figure]["observed"]]
    return {figure: TASKS.get(figure, config["task"]) for figure in figures}


def observed_tables(*targets):
    """Figure -> table behind it, of the same."""
    return {figure: f"results/{SCALE}/figures/{figure}.csv" for figure in observed(*targets)}


def observing_modules(*targets):
    """Their library files."""
    return [f"abrupt/figures/{figure}.py" for figure in observed(*targets)]


rule claims:
    """Measure each of the paper's claims on this run and give a verdict by a criterion that is the same for every run."""
    input:
        training=TRAINING,
        components=COMPONENT_TRAINING,
        # Their metadata says which configuration the curves beside them are of.
        weights=expand(
            "results/{scale}/pretrain/seed{seed}/step{step}.safetensors",
            scale=SCALE,
            seed=SEEDS,
            step=config["pretrain"]["steps"],
        ),
        component_weights=expand(
            "results/{scale}/components/{component}/seed{seed}/step{step}.safetensors",
            scale=SCALE,
            component=config["components"]["names"],
            seed=SEEDS,
            step=config["components"]["steps"],
        ),
        head_scores=HEAD_SCORES,
        completion=ANALYSES["completion"],
        baselines=ANALYSES["baselines"],
        token_intervention=ANALYSES["token_intervention"],
        token_embeddings=ANALYSES["token_embeddings"],
        position_embeddings=ANALYSES["position_embeddings"],
        probes=ANALYSES["probes"],
        permuted_positions=ANALYSES["permuted_positions"],
        library=library("scripts/claims.py"),
    output:
        csv=f"results/{SCALE}/claims.csv",
        markdown=f"results/{SCALE}/claims.md",
        html=report(
            f"results/{SCALE}/claims.html",
            caption="../report/claims.rst",
            category="7. Claims",
            labels={"table": "claims and verdicts"},
        ),
    log:
        f"results/{SCALE}/logs/claims.log",
    benchmark:
        f"results/{SCALE}/benchmarks/claims.tsv"
    localrule: True
    conda:
        "../../envs/plot.yaml"
    threads: 1
    resources:
        mem_mb=growing(1000),
        runtime=growing(10),
        gpu=0,
    params:
        scale=SCALE,
        seeds=SEEDS,
        components=config["components"]["names"],
        task=config["task"],
        model=config["model"],
        pretrain=training_params(),
        component_steps=config["components"]["steps"],
    message:
        "Judging the claims"
    script:
        "../scripts/claims.py"


RUN_CLAIM_FIGURES = [
    "fig11_gpt_loss",
    "fig12_gpt_attention",
    "fig13_width",
    "fig14_depth",
    "fig16_mixture",
    "fig17_larger",
    "fig18_gaussian",
]


rule claims_of_runs:
    """Judge the claim about runs of their own (Figures 11 to 18): part of `paper_figures`, not of `all`."""
    input:
        **{figure: f"results/{SCALE}/figures/{figure}.csv" for figure in RUN_CLAIM_FIGURES},
        library=library("scripts/claims_of_runs.py"),
    output:
        csv=f"results/{SCALE}/claims_of_runs.csv",
        markdown=f"results/{SCALE}/claims_of_runs.md",
        html=report(
            f"results/{SCALE}/claims_of_runs.html",
            caption="../report/claims_of_runs.rst",
            category="7. Claims",
            labels={"table": "claims about runs of their own"},
        ),
    log:
        f"results/{SCALE}/logs/claims_of_runs.log",
    benchmark:
        f"results/{SCALE}/benchmarks/claims_of_runs.tsv"
    localrule: True
    conda:
        "../../envs/plot.yaml"
    threads: 1
    resources:
        mem_mb=growing(1000),
        runtime=growing(10),
        gpu=0,
    params:
        scale=SCALE,
        seeds=SEEDS,
        task=config["task"],
        tasks={figure: TASKS.get(figure, config["task"]) for figure in RUN_CLAIM_FIGURES},
    message:
        "Judging the claims about runs of their own"
    script:
        "../scripts/claims_of_runs.py"


rule figure_guide:
    """Say of each figure what it shows in this run, and where that disagrees with the paper."""
    input:
        **observed_tables("figures"),
        claims=rules.claims.output.csv,
        library=library("scripts/figure_guide.py", *observing_modules("figures")),
    output:
        report(
            f"results/{SCALE}/figures.html",
            caption="../report/figure_guide.rst",
            category="0. Guide",
            labels={"page": "what each figure shows"},
        ),
    log:
        f"results/{SCALE}/logs/figure_guide.log",
    benchmark:
        f"results/{SCALE}/benchmarks/figure_guide.tsv"
    localrule: True
    conda:
        "../../envs/plot.yaml"
    threads: 1
    resources:
        mem_mb=growing(1000),
        runtime=growing(10),
        gpu=0,
    params:
        catalogue={figure: CATALOGUE[figure] for figure in figures_of("figures")},
        observed=observed("figures"),
    message:
        "Writing the guide to the figures"
    script:
        "../scripts/figure_guide.py"


use rule figure_guide as guide_of_runs with:
    input:
        **observed_tables(*OF_RUNS),
        claims=rules.claims_of_runs.output.csv,
        library=library("scripts/figure_guide.py", *observing_modules(*OF_RUNS)),
    output:
        report(
            f"results/{SCALE}/figures_of_runs.html",
            caption="../report/figure_guide.rst",
            category="0. Guide",
            labels={"page": "what each figure of runs of their own shows"},
        ),
    log:
        f"results/{SCALE}/logs/guide_of_runs.log",
    benchmark:
        f"results/{SCALE}/benchmarks/guide_of_runs.tsv"
    params:
        catalogue={figure: CATALOGUE[figure] for figure in figures_of(*OF_RUNS)},
        observed=observed(*OF_RUNS),
    message:
        "Writing the guide to the figures of runs of their own"


rule paper_figures:
    """Every figure, the claims about runs of their own, and a guide to these."""
    input:
        figure_files("figures", *OF_RUNS),
        rules.claims_of_runs.output,
        rules.guide_of_runs.output,
