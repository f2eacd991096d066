"""Single-component runs (paper, Figure 8).

Needs: the weights at `pretrain.steps`. Gives: one loss curve for each component and seed.
"""


rule component_run:
    """Re-initialise one component of the pretrained model and train it alone, all else frozen."""
    input:
        weights=f"{FOLDER}/pretrain/seed{{seed}}/step{config['pretrain']['steps']}.safetensors",
        changed=changed(f"{FOLDER}/components/{{component}}/seed{{seed}}/training.csv"),
    output:
        training=f"{FOLDER}/components/{{component}}/seed{{seed}}/training.csv",
        weights=[f"{FOLDER}/components/{{component}}/seed{{seed}}/step{config['components']['steps']}.safetensors"],
    log:
        f"{FOLDER}/logs/components/{{component}}/seed{{seed}}.log",
    benchmark:
        f"{FOLDER}/benchmarks/components/{{component}}/seed{{seed}}.tsv"
    conda:
        MODEL_ENV
    threads: config["components"]["threads"]
    resources:
        mem_mb=growing(at_scale(smoke=2000, cpu=2000, paper=8000)),
        runtime=at_scale(smoke=10, cpu=60, paper=1440),
        gpu=GPU,
    params:
        identity=identity,
        threads=config["components"]["threads"],
        store=STORE,
    message:
        "Training {wildcards.component} alone, seed {wildcards.seed}"
    script:
        "../scripts/component_run.py"
