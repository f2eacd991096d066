"""Runs of their own (paper, Figures 11 to 18): normal training with something changed, and the decoder.

Needs: nothing, they start from scratch. Gives: a loss curve and the last weights for each run and seed, and
the decoder's attention maps. None is part of `all`.
"""

for name, changes in variants(config).items():
    changed = settings.merged(config, changes)
    # Roughly what an update costs: the longest runs start first, so that all cores are busy to the end.
    cost = changed["model"]["num_hidden_layers"] * changed["model"]["hidden_size"] * changed["task"]["rows"] ** 2

    rule:
        name:
            f"train_{name}"
        input:
            library=library("scripts/pretrain.py"),
        output:
            training=f"results/{{scale}}/runs/{name}/seed{{seed}}/training.csv",
            weights=f"results/{{scale}}/runs/{name}/seed{{seed}}/step{changed['pretrain']['steps']}.safetensors",
        log:
            f"results/{{scale}}/logs/runs/{name}/seed{{seed}}.log",
        benchmark:
            f"results/{{scale}}/benchmarks/runs/{name}/seed{{seed}}.tsv"
        priority: cost
        conda:
            MODEL_ENV
        threads: changed["pretrain"]["threads"]
        resources:
            mem_mb=growing(at_scale(smoke=2000, cpu=2000, paper=16000)),
            runtime=at_scale(smoke=20, cpu=240, paper=1440),
            gpu=GPU,
        params:
            task=changed["task"],
            model=changed["model"],
            pretrain=training_params(changed),
            device=config["device"],
            state=f"results/.state/{{scale}}/runs/{name}/seed{{seed}}",
        message:
            "Training {rule}, seed {wildcards.seed}"
        script:
            "../scripts/pretrain.py"


DECODER = settings.merged(config, gpt_changes(config))


rule gpt_training:
    """Train a decoder on [masked X, SEP, X] by next-token prediction (paper, Figure 11)."""
    input:
        library=library("scripts/gpt_training.py"),
    output:
        training="results/{scale}/gpt/seed{seed}/training.csv",
        weights=expand(
            "results/{{scale}}/gpt/seed{{seed}}/step{step}.safetensors",
            step=DECODER["pretrain"]["checkpoint_steps"],
        ),
    log:
        "results/{scale}/logs/gpt/training/seed{seed}.log",
    benchmark:
        "results/{scale}/benchmarks/gpt/training/seed{seed}.tsv"
    conda:
        MODEL_ENV
    threads: DECODER["pretrain"]["threads"]
    resources:
        mem_mb=growing(at_scale(smoke=2000, cpu=2000, paper=8000)),
        runtime=at_scale(smoke=20, cpu=60, paper=1440),
        gpu=GPU,
    params:
        task=DECODER["task"],
        model=DECODER["model"],
        pretrain=training_params(DECODER),
        device=config["device"],
        state="results/.state/{scale}/gpt/seed{seed}",
    message:
        "Training the decoder, seed {wildcards.seed}"
    script:
        "../scripts/gpt_training.py"


rule gpt_attention:
    """Average the decoder's attention weights over held-out matrices (paper, Figure 12)."""
    input:
        weights=rules.gpt_training.output.weights,
        library=library("scripts/gpt_attention.py"),
    output:
        expand(
            "results/{{scale}}/gpt/seed{{seed}}/attention/step{step}.h5",
            step=DECODER["pretrain"]["checkpoint_steps"],
        ),
    log:
        "results/{scale}/logs/gpt/attention/seed{seed}.log",
    benchmark:
        "results/{scale}/benchmarks/gpt/attention/seed{seed}.tsv"
    conda:
        MODEL_ENV
    threads: 1
    resources:
        mem_mb=growing(at_scale(smoke=1500, cpu=1500, paper=4000)),
        runtime=growing(at_scale(smoke=5, cpu=5, paper=30)),
        gpu=GPU,
    params:
        task=DECODER["task"],
        model=DECODER["model"],
        pretrain=training_params(DECODER),
        matrices=config["gpt"]["matrices"],
        device=config["device"],
    message:
        "Extracting the decoder's attention, seed {wildcards.seed}"
    script:
        "../scripts/gpt_attention.py"
