"""Normal training, from scratch to `pretrain.steps`.

Gives: the loss curve, and the weights at `pretrain.checkpoint_steps`.
"""


rule pretrain:
    """Train every parameter online on fresh matrices; resumes by itself if it was killed."""
    input:
        changed=changed(f"{FOLDER}/pretrain/seed{{seed}}/training.csv"),
    output:
        training=f"{FOLDER}/pretrain/seed{{seed}}/training.csv",
        weights=expand(
            f"{FOLDER}/pretrain/seed{{{{seed}}}}/step{{step}}.safetensors",
            step=sorted(config["pretrain"]["checkpoint_steps"]),
        ),
    log:
        f"{FOLDER}/logs/pretrain/seed{{seed}}.log",
    benchmark:
        f"{FOLDER}/benchmarks/pretrain/seed{{seed}}.tsv"
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
        identity=identity,
        threads=config["pretrain"]["threads"],
        # Not an output: Snakemake would delete it before the job that is to resume from it.
        store=STORE,
    message:
        "Pretraining, seed {wildcards.seed}"
    script:
        "../scripts/pretrain.py"
