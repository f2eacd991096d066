"""Normal training, from scratch to `pretrain.steps`.

Gives: the loss curve, and the weights at `pretrain.checkpoint_steps`.
"""


rule pretrain:
    """Train every parameter online on fresh matrices; resumes by itself if it was killed."""
    input:
        library=library("scripts/pretrain.py"),
    output:
        training="results/{scale}/pretrain/seed{seed}/training.csv",
        weights=expand(
            "results/{{scale}}/pretrain/seed{{seed}}/step{step}.safetensors",
            step=config["pretrain"]["checkpoint_steps"],
        ),
    log:
        "results/{scale}/logs/pretrain/seed{seed}.log",
    benchmark:
        "results/{scale}/benchmarks/pretrain/seed{seed}.tsv"
    conda:
        MODEL_ENV
    threads: config["pretrain"]["threads"]
    resources:
        mem_mb=growing(at_scale(smoke=2000, cpu=2000, paper=8000)),
        # Does not grow: a second attempt goes on where the first stopped, and a time beyond the partition's limit
        # would keep it in the queue for ever.
        runtime=at_scale(smoke=20, cpu=240, paper=1440),
        gpu=GPU,
    params:
        task=config["task"],
        model=config["model"],
        pretrain=training_params(),
        device=config["device"],
        # Not an output: Snakemake would delete it before the job that is to resume from it.
        state="results/.state/{scale}/pretrain/seed{seed}",
    message:
        "Pretraining, seed {wildcards.seed}"
    script:
        "../scripts/pretrain.py"
