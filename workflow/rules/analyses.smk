"""Measurements on held-out matrices: of the pretrained model's checkpoints, and of the classical baseline.

Needs: weights at `analyses.steps`. Gives: one tidy table for each analysis and seed.
"""


rule model_analysis:
    """Run one module of workflow/abrupt/analyses/ on the checkpoints of one seed."""
    input:
        weights=lambda wildcards: expand(
            "results/{{scale}}/pretrain/seed{{seed}}/step{step}.safetensors",
            step=of_analysis(wildcards.analysis)["steps"],
        ),
        library=lambda wildcards: library("scripts/model_analysis.py", f"abrupt/analyses/{wildcards.analysis}.py"),
    output:
        "results/{scale}/analyses/{analysis}/seed{seed}.csv",
    log:
        "results/{scale}/logs/analyses/{analysis}/seed{seed}.log",
    benchmark:
        "results/{scale}/benchmarks/analyses/{analysis}/seed{seed}.tsv"
    conda:
        MODEL_ENV
    threads: 1
    resources:
        mem_mb=growing(at_scale(smoke=1500, cpu=1500, paper=4000)),
        runtime=growing(at_scale(smoke=5, cpu=10, paper=60)),
        gpu=GPU,
    params:
        task=config["task"],
        model=config["model"],
        pretrain=training_params(),
        options=lambda wildcards: of_analysis(wildcards.analysis),
        device=config["device"],
    message:
        "Measuring {wildcards.analysis}, seed {wildcards.seed}"
    script:
        "../scripts/model_analysis.py"


rule baselines:
    """Complete the matrices of the completion analysis by classical methods (paper, Figures 3 and 19)."""
    input:
        library=library("scripts/baselines.py"),
    output:
        "results/{scale}/analyses/baselines/seed{seed}.csv",
    log:
        "results/{scale}/logs/analyses/baselines/seed{seed}.log",
    benchmark:
        "results/{scale}/benchmarks/analyses/baselines/seed{seed}.tsv"
    conda:
        "../../envs/analysis.yaml"
    threads: config["analyses"]["baselines"]["threads"]
    resources:
        mem_mb=growing(1000 + 500 * config["analyses"]["baselines"]["threads"]),
        runtime=growing(at_scale(smoke=5, cpu=30, paper=60)),
        gpu=0,
    params:
        task=config["task"],
        options={
            "matrices": of_analysis("completion")["matrices"],
            "shifts": config["analyses"]["completion"]["shifts"],
            "regularisation": config["analyses"]["baselines"]["regularisation"],
        },
    message:
        "Classical completion, seed {wildcards.seed}"
    script:
        "../scripts/baselines.py"
