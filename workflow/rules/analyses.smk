"""Measurements on held-out matrices: of the pretrained model's checkpoints, and of the classical baseline.

Each analysis is a module of workflow/abrupt/analyses/. Needs: weights at `analyses.steps`. Gives: one tidy table for
each analysis and seed.
"""

for job, members in ANALYSIS_JOBS.items():

    rule:
        name:
            f"measure_{job}"
        input:
            weights=[
                f"{FOLDER}/pretrain/seed{{seed}}/step{step}.safetensors"
                for step in analysis_options(config, members[0])["steps"]
            ],
            changed=changed(*(f"{FOLDER}/analyses/{analysis}/seed{{seed}}.csv" for analysis in members)),
        output:
            **{analysis: f"{FOLDER}/analyses/{analysis}/seed{{seed}}.csv" for analysis in members},
        log:
            f"{FOLDER}/logs/analyses/{job}/seed{{seed}}.log",
        benchmark:
            f"{FOLDER}/benchmarks/analyses/{job}/seed{{seed}}.tsv"
        conda:
            MODEL_ENV
        threads: 1
        resources:
            mem_mb=growing(at_scale(smoke=1500, cpu=1500, paper=4000)),
            runtime=growing(at_scale(smoke=5, cpu=10, paper=60 * len(members))),
            gpu=GPU,
        params:
            identity=identities,
        message:
            f"Measuring {' and '.join(members)}, seed {{wildcards.seed}}"
        script:
            "../scripts/measure.py"


rule baselines:
    """Complete the matrices of the completion analysis by classical methods (paper, Figures 3 and 19)."""
    input:
        changed=changed(f"{FOLDER}/analyses/baselines/seed{{seed}}.csv"),
    output:
        f"{FOLDER}/analyses/baselines/seed{{seed}}.csv",
    log:
        f"{FOLDER}/logs/analyses/baselines/seed{{seed}}.log",
    benchmark:
        f"{FOLDER}/benchmarks/analyses/baselines/seed{{seed}}.tsv"
    conda:
        "../../envs/analysis.yaml"
    threads: config["analyses"]["baselines"]["threads"]
    resources:
        mem_mb=growing(1000 + 500 * config["analyses"]["baselines"]["threads"]),
        runtime=growing(at_scale(smoke=5, cpu=30, paper=60)),
        gpu=0,
    params:
        identity=identity,
    message:
        "Classical completion, seed {wildcards.seed}"
    script:
        "../scripts/baselines.py"
