"""What a reviewer reads: the claims, with verdicts.

Needs: training curves, head scores and analyses of every seed, tables behind figures. Gives: claims.csv, and the same
as a page.
"""


rule claims:
    """Measure each of the paper's claims on this run and give a verdict by a criterion that is the same for every run."""
    input:
        **{name: RESULTS.files(name) for name in RESULTS.CLAIM_INPUTS},
        changed=changed(*(f"{FOLDER}/claims.{suffix}" for suffix in ("csv", "md", "html"))),
    output:
        csv=f"{FOLDER}/claims.csv",
        markdown=f"{FOLDER}/claims.md",
        html=report(
            f"{FOLDER}/claims.html",
            caption="../report/claims.rst",
            category="7. Claims",
            labels={"table": "claims and verdicts"},
        ),
    log:
        f"{FOLDER}/logs/claims.log",
    benchmark:
        f"{FOLDER}/benchmarks/claims.tsv"
    localrule: True
    conda:
        "../../envs/plot.yaml"
    threads: 1
    resources:
        mem_mb=growing(1000),
        runtime=growing(10),
        gpu=0,
    params:
        identity=identity,
    message:
        "Judging the claims"
    script:
        "../scripts/claims.py"


rule claims_of_runs:
    """Judge the claim about runs of their own (Figures 11 to 18): part of `paper_figures`, not of `all`."""
    input:
        **{figure: f"{FOLDER}/figures/{figure}.csv" for figure in RESULTS.RUN_CLAIM_FIGURES},
        changed=changed(*(f"{FOLDER}/claims_of_runs.{suffix}" for suffix in ("csv", "md", "html"))),
    output:
        csv=f"{FOLDER}/claims_of_runs.csv",
        markdown=f"{FOLDER}/claims_of_runs.md",
        html=report(
            f"{FOLDER}/claims_of_runs.html",
            caption="../report/claims_of_runs.rst",
            category="7. Claims",
            labels={"table": "claims about runs of their own"},
        ),
    log:
        f"{FOLDER}/logs/claims_of_runs.log",
    benchmark:
        f"{FOLDER}/benchmarks/claims_of_runs.tsv"
    localrule: True
    conda:
        "../../envs/plot.yaml"
    threads: 1
    resources:
        mem_mb=growing(1000),
        runtime=growing(10),
        gpu=0,
    params:
        identity=identity,
    message:
        "Judging the claims about runs of their own"
    script:
        "../scripts/claims_of_runs.py"


rule paper_figures:
    """Every figure, and the claims about runs of their own."""
    input:
        figure_files("figures", "sweeps", "mixture", "larger", "gaussian", "gpt"),
        rules.claims_of_runs.output,


rule prune:
    """List the training runs in the store that no results were made from; remove them with --config prune=remove."""
    log:
        f"{FOLDER}/logs/prune.log",
    localrule: True
    conda:
        "../../envs/plot.yaml"
    threads: 1
    resources:
        mem_mb=growing(1000),
        runtime=growing(10),
        gpu=0,
    params:
        store=STORE,
    message:
        "Looking for training runs that no results were made from"
    script:
        "../scripts/prune.py"
