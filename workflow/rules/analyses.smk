"""Measurements on held-out matrices: of the pretrained model's checkpoints, and of the classical baseline.

Needs: weights at `analyses.steps`. Gives: one tidy table for each analysis and seed.
"""


rule model_analysis:
    """Run one module of workflow/abrupt/analyses/ on the checkpoints of one seed."""
    input:
        weights=expand(
            "results/{{scale}}/pretrain/seed{{seed}}/step{step}.safetensors", step=config["analyses"]["steps"]
        ),
        library=lambda wildcards: library("scripts/model_analysis.py", f"abrupt/analyses/{wildcards.analysis}.py"),
    output:
        "results/{scale}/analyses/{analysis}/seed{seed}.csv",
    log:
        "results/{scale}/logs/analyses/{analysis}/seed{seed}.log",
    benchmark:
        "results/{scale}/benchmarks/analyses/{analysis}/seed{seed}.tsv"
    conda:
        "../../envs/train.yaml"
    threads: 1
    resources:
        mem_mb=at_scale(smoke=2000, cpu=2000, paper=4000),
        runtime=30,
        gpu=GPU,
    params:
        task=config["task"],
        model=config["model"],
        pretrain=training_params(),
        steps=config["analyses"]["steps"],
        matrices=config["analyses"]["matrices"],
        options=lambda wildcards: config["analyses"].get(wildcards.analysis, {}),
        device=config["device"],
    message:
        "Measuring {wildcards.analysis}, seed {wildcards.seed}"
    script:
        "../scripts/model_analysis.py"


rule nuclear_norm:
    """Complete the same matrices by nuclear-norm minimisation (paper, Figure 3, at the training p)."""
    input:
        library=library("scripts/nuclear_norm.py"),
    output:
        "results/{scale}/analyses/nuclear_norm/seed{seed}.csv",
    log:
        "results/{scale}/logs/analyses/nuclear_norm/seed{seed}.log",
    benchmark:
        "results/{scale}/benchmarks/analyses/nuclear_norm/seed{seed}.tsv"
    conda:
        "../../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
        gpu=0,
    params:
        task=config["task"],
        matrices=config["analyses"]["matrices"],
    message:
        "Nuclear-norm minimisation, seed {wildcards.seed}"
    script:
        "../scripts/nuclear_norm.py"
