"""Runs of their own (paper, Figures 11 to 18): normal training with something changed, and the decoder.

Needs: nothing, they start from scratch. Gives: a loss curve and the last weights for each run and seed, and the
decoder's attention maps. None is part of `all`.
"""

for name, changes in variants(config).items():
    varied = merged(config, changes)
    # Roughly what an update costs: the longest runs start first, so that all cores are busy to the end.
    cost = varied["model"]["num_hidden_layers"] * varied["model"]["hidden_size"] * varied["task"]["rows"] ** 2

    rule:
        name:
            f"train_{name}"
        input:
            changed=changed(f"{FOLDER}/runs/{name}/seed{{seed}}/training.csv"),
        output:
            training=f"{FOLDER}/runs/{name}/seed{{seed}}/training.csv",
            weights=[f"{FOLDER}/runs/{name}/seed{{seed}}/step{varied['pretrain']['steps']}.safetensors"],
        log:
            f"{FOLDER}/logs/runs/{name}/seed{{seed}}.log",
        benchmark:
            f"{FOLDER}/benchmarks/runs/{name}/seed{{seed}}.tsv"
        priority: cost
        conda:
            MODEL_ENV
        threads: config["runs"]["threads"]
        resources:
            mem_mb=growing(at_scale(smoke=2000, cpu=2000, paper=16000)),
            runtime=at_scale(smoke=20, cpu=240, paper=1440),
            gpu=GPU,
        params:
            identity=identity,
            threads=config["runs"]["threads"],
            store=STORE,
        message:
            "Training {rule}, seed {wildcards.seed}"
        script:
            "../scripts/pretrain.py"


rule gpt_training:
    """Train a decoder on [masked X, SEP, X] by next-token prediction (paper, Figure 11)."""
    input:
        changed=changed(f"{FOLDER}/gpt/seed{{seed}}/training.csv"),
    output:
        training=f"{FOLDER}/gpt/seed{{seed}}/training.csv",
        weights=expand(
            f"{FOLDER}/gpt/seed{{{{seed}}}}/step{{step}}.safetensors",
            step=sorted(config["gpt"]["pretrain"]["checkpoint_steps"]),
        ),
    log:
        f"{FOLDER}/logs/gpt/training/seed{{seed}}.log",
    benchmark:
        f"{FOLDER}/benchmarks/gpt/training/seed{{seed}}.tsv"
    conda:
        MODEL_ENV
    threads: config["gpt"]["pretrain"]["threads"]
    resources:
        mem_mb=growing(at_scale(smoke=2000, cpu=2000, paper=8000)),
        runtime=at_scale(smoke=20, cpu=60, paper=1440),
        gpu=GPU,
    params:
        identity=identity,
        threads=config["gpt"]["pretrain"]["threads"],
        store=STORE,
    message:
        "Training the decoder, seed {wildcards.seed}"
    script:
        "../scripts/gpt_training.py"


rule gpt_attention:
    """Average the decoder's attention weights over held-out matrices (paper, Figure 12)."""
    input:
        weights=[
            f"{FOLDER}/gpt/seed{{seed}}/step{step}.safetensors"
            for step in config["gpt"]["pretrain"]["checkpoint_steps"]
        ],
        changed=changed(
            *(
                f"{FOLDER}/gpt/seed{{seed}}/attention/step{step}.h5"
                for step in config["gpt"]["pretrain"]["checkpoint_steps"]
            )
        ),
    output:
        expand(
            f"{FOLDER}/gpt/seed{{{{seed}}}}/attention/step{{step}}.h5",
            step=config["gpt"]["pretrain"]["checkpoint_steps"],
        ),
    log:
        f"{FOLDER}/logs/gpt/attention/seed{{seed}}.log",
    benchmark:
        f"{FOLDER}/benchmarks/gpt/attention/seed{{seed}}.tsv"
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
        "Extracting the decoder's attention, seed {wildcards.seed}"
    script:
        "../scripts/gpt_attention.py"
