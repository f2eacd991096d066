"""What a reviewer reads: the claims, with verdicts.

Needs: training curves, head scores and analyses of every seed. Gives: claims.csv, and the same as a page.
"""


rule claims:
    """Measure each of the paper's claims on this run and give a verdict by a criterion fixed beforehand."""
    input:
        training=TRAINING,
        components=COMPONENT_TRAINING,
        # Their metadata says which configuration the curves beside them are of.
        weights=expand(
            "results/{scale}/pretrain/seed{seed}/step{step}.safetensors",
            scale=SCALE,
            seed=SEEDS,
            step=config["pretrain"]["steps"],
        ),
        component_weights=expand(
            "results/{scale}/components/{component}/seed{seed}/step{step}.safetensors",
            scale=SCALE,
            component=config["components"]["names"],
            seed=SEEDS,
            step=config["components"]["steps"],
        ),
        head_scores=HEAD_SCORES,
        completion=expand("results/{scale}/analyses/completion/seed{seed}.csv", scale=SCALE, seed=SEEDS),
        token_intervention=expand("results/{scale}/analyses/token_intervention/seed{seed}.csv", scale=SCALE, seed=SEEDS),
        nuclear_norm=expand("results/{scale}/analyses/nuclear_norm/seed{seed}.csv", scale=SCALE, seed=SEEDS),
        library=library("scripts/claims.py"),
    output:
        csv=f"results/{SCALE}/claims.csv",
        markdown=f"results/{SCALE}/claims.md",
        html=report(
            f"results/{SCALE}/claims.html",
            caption="../report/claims.rst",
            category="5. Claims",
            labels={"table": "claims and verdicts"},
        ),
    log:
        f"results/{SCALE}/logs/claims.log",
    benchmark:
        f"results/{SCALE}/benchmarks/claims.tsv"
    conda:
        "../../envs/plot.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
        gpu=0,
    params:
        scale=SCALE,
        seeds=SEEDS,
        components=config["components"]["names"],
        task=config["task"],
        model=config["model"],
        pretrain=training_params(),
        component_steps=config["components"]["steps"],
    message:
        "Judging the claims"
    script:
        "../scripts/claims.py"
