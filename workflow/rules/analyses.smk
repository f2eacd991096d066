"""Measurements on held-out matrices: of the pretrained model's checkpoints, and of the classical baseline.

Each analysis is a module of workflow/abrupt/analyses/. Needs: weights at `analyses.steps`. Gives: one tidy table for
each analysis and seed.
"""

for job, members in ANALYSIS_JOBS.items():

    rule:
        name:
            f"measure_{job}"
        input:
            weights=expand(
                "results/{{scale}}/pretrain/seed{{seed}}/step{step}.safetensors",
                step=steps_of(members),
            ),
            library=library("scripts/measure.py", *(f"abrupt/analyses/{analysis}.py" for analysis in members)),
        output:
            **{analysis: f"results/{{scale}}/analyses/{analysis}/seed{{seed}}.csv" for analysis in members},
        log:
            f"results/{{scale}}/logs/analyses/{job}/seed{{seed}}.log",
        benchmark:
            f"results/{{scale}}/benchmarks/analyses/{job}/seed{{seed}}.tsv"
        conda:
            MODEL_ENV
        threads: 1
        resources:
            mem_mb=growing(at_scale(smoke=1500, cpu=1500, paper=4000)),
            runtime=growing(at_scale(smoke=5, cpu=10, paper=60 * len(members))),
            gpu=GPU,
        params:
            task=config["task"],
            model=config["model"],
            pretrain=training_params(),
            options={analysis: of_analysis(analysis) for analysis in members},
            device=config["device"],
        message:
            f"Measuring {' and '.join(members)}, seed {{wildcards.seed}}"
        script:
            "../scripts/measure.py"


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
