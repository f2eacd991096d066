"""Attention maps (paper, Figures 4, 5, 22 and 23).

Needs: weights at `attention.steps`. Gives: one HDF5 file for each seed and step, with the mask patterns as groups, and
a tidy table of what every head attends to.
"""


rule attention:
    """Average attention weights over held-out matrices, for random, row and column masks."""

    # All steps in one job: a step takes less time than importing PyTorch.
    input:
        weights=[f"{FOLDER}/pretrain/seed{{seed}}/step{step}.safetensors" for step in config["attention"]["steps"]],
        changed=changed(*(f"{FOLDER}/attention/seed{{seed}}/step{step}.h5" for step in config["attention"]["steps"])),
    output:
        ensure(
            expand(f"{FOLDER}/attention/seed{{{{seed}}}}/step{{step}}.h5", step=config["attention"]["steps"]),
            non_empty=True,
        ),
    log:
        f"{FOLDER}/logs/attention/seed{{seed}}.log",
    benchmark:
        f"{FOLDER}/benchmarks/attention/seed{{seed}}.tsv"
    conda:
        MODEL_ENV
    threads: 1
    resources:
        mem_mb=growing(at_scale(smoke=1500, cpu=1500, paper=4000)),
        runtime=growing(at_scale(smoke=5, cpu=5, paper=30)),
        gpu=GPU,
    params:
        identity=identity,
    message:
        "Extracting attention, seed {wildcards.seed}"
    script:
        "../scripts/attention.py"


rule head_scores:
    """The share of each head's attention on the same row, same column, itself, observed and masked entries."""
    input:
        attention=[f"{FOLDER}/attention/seed{{seed}}/step{step}.h5" for step in config["attention"]["steps"]],
        changed=changed(f"{FOLDER}/attention/seed{{seed}}/head_scores.csv"),
    output:
        f"{FOLDER}/attention/seed{{seed}}/head_scores.csv",
    log:
        f"{FOLDER}/logs/head_scores/seed{{seed}}.log",
    benchmark:
        f"{FOLDER}/benchmarks/head_scores/seed{{seed}}.tsv"
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
        "Scoring attention heads, seed {wildcards.seed}"
    script:
        "../scripts/head_scores.py"
