"""Figures: one rule each, called as the figure is; its code is workflow/abrupt/figures/<figure>.py.

Needs: figure data only, never a checkpoint. Gives: PDF, PNG and the CSV of what is plotted.
"""

SCALE, SEEDS = config["scale"], config["seeds"]
TRAINING = expand("results/{scale}/pretrain/seed{seed}/training.csv", scale=SCALE, seed=SEEDS)
COMPONENT_TRAINING = expand(
    "results/{scale}/components/{component}/seed{seed}/training.csv",
    scale=SCALE,
    component=config["components"]["names"],
    seed=SEEDS,
)
HEAD_SCORES = expand("results/{scale}/attention/seed{seed}/head_scores.csv", scale=SCALE, seed=SEEDS)
# Maps and single matrices are shown for the first seed.
FIRST_TRAINING = TRAINING[0]
FIRST_ATTENTION = expand(
    "results/{scale}/attention/seed{seed}/step{step}.h5",
    scale=SCALE,
    seed=SEEDS[0],
    step=config["attention"]["steps"],
)

# In the paper's order: what each figure reads, and its category in the report.
FIGURES = {
    "task": {"category": "1. The task", "input": {"attention": FIRST_ATTENTION[-1]}},
    "fig02_loss": {"category": "2. The drop", "input": {"training": TRAINING}},
    "prediction": {
        "category": "2. The drop",
        "input": {"training": FIRST_TRAINING, "attention": FIRST_ATTENTION},
    },
    "fig04_attention": {
        "category": "3. Attention",
        "input": {"training": FIRST_TRAINING, "attention": FIRST_ATTENTION},
    },
    "ranked_heads": {"category": "3. Attention", "input": {"training": TRAINING, "head_scores": HEAD_SCORES}},
    "fig08_components": {
        "category": "4. Single components",
        "input": {"training": TRAINING, "components": COMPONENT_TRAINING},
    },
}

for figure, of_figure in FIGURES.items():

    rule:
        name:
            figure
        input:
            **of_figure["input"],
            library=library("scripts/figure.py", f"abrupt/figures/{figure}.py"),
        output:
            pdf=f"results/{SCALE}/figures/{figure}.pdf",
            png=report(
                f"results/{SCALE}/figures/{figure}.png",
                caption=f"../report/{figure}.rst",
                category=of_figure["category"],
                labels={"figure": figure},
            ),
            csv=f"results/{SCALE}/figures/{figure}.csv",
        log:
            f"results/{SCALE}/logs/figures/{figure}.log",
        benchmark:
            f"results/{SCALE}/benchmarks/figures/{figure}.tsv"
        conda:
            "../../envs/plot.yaml"
        threads: 1
        resources:
            mem_mb=1000,
            runtime=10,
            gpu=0,
        params:
            task=config["task"],
        message:
            "Drawing {rule}"
        script:
            "../scripts/figure.py"


rule figures:
    """All figures."""
    input:
        expand(f"results/{SCALE}/figures/{{figure}}.{{suffix}}", figure=FIGURES, suffix=["pdf", "png", "csv"]),
