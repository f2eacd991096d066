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
GPT_TRAINING = expand("results/{scale}/gpt/seed{seed}/training.csv", scale=SCALE, seed=SEEDS)
FIRST_GPT_ATTENTION = expand(
    "results/{scale}/gpt/seed{seed}/attention/step{step}.h5",
    scale=SCALE,
    seed=SEEDS[0],
    step=DECODER["pretrain"]["checkpoint_steps"],
)

ANALYSES = {
    analysis: expand("results/{scale}/analyses/{analysis}/seed{seed}.csv", scale=SCALE, analysis=analysis, seed=SEEDS)
    for analysis in [*chain.from_iterable(ANALYSIS_JOBS.values()), "baselines"]
}
INTERVENTION = {"training": TRAINING, "token_intervention": ANALYSES["token_intervention"]}
COMPLETION = {name: ANALYSES[name] for name in ("completion", "baselines")}


# What each figure reads; what it is about, and which target makes it: workflow/figures.yaml.
FIGURES = {
    "task": {"attention": FIRST_ATTENTION[-1]},
    "fig02_loss": {"training": TRAINING},
    "prediction": {"training": FIRST_TRAINING, "attention": FIRST_ATTENTION},
    "table1_token_intervention": INTERVENTION,
    "table2_full_rank": INTERVENTION,
    "fig04_attention": {"training": FIRST_TRAINING, "attention": FIRST_ATTENTION},
    "fig05_masked_attention": {
        "attention": f"results/{SCALE}/attention/seed{SEEDS[0]}/step{config['pretrain']['steps']}.h5"
    },
    "fig22_attention_progress": {"training": FIRST_TRAINING, "attention": FIRST_ATTENTION},
    "ranked_heads": {"training": TRAINING, "head_scores": HEAD_SCORES},
    "head_specialisation": {"training": TRAINING, "head_scores": HEAD_SCORES},
    "head_ablation": {"head_ablation": ANALYSES["head_ablation"]},
    "activation_patching": {"activation_patching": ANALYSES["activation_patching"], "head_scores": HEAD_SCORES},
    "fig06_probes": {"training": TRAINING, "probes": ANALYSES["probes"]},
    "fig07_embeddings": {
        "token_embeddings": ANALYSES["token_embeddings"][0],
        "position_embeddings": ANALYSES["position_embeddings"][0],
    },
    "fig08_components": {"training": TRAINING, "components": COMPONENT_TRAINING},
    "component_switching": {"component_switching": ANALYSES["component_switching"]},
    "fig09_token_progress": {"training": TRAINING, "token_embeddings": ANALYSES["token_embeddings"]},
    "fig10_position_progress": {"training": TRAINING, "position_embeddings": ANALYSES["position_embeddings"]},
    "permuted_positions": {"training": TRAINING, "permuted_positions": ANALYSES["permuted_positions"]},
    "fig21_singular_vector": {"training": TRAINING, "probes": ANALYSES["probes"]},
    "fig11_gpt_loss": {"training": GPT_TRAINING},
    "fig12_gpt_attention": {"training": GPT_TRAINING[0], "attention": FIRST_GPT_ATTENTION},
    "fig13_width": {"training": training_of("width")},
    "fig14_depth": {"training": training_of("depth")},
    "fig15_heads": {"training": training_of("heads")},
    "fig16_mixture": {"training": training_of("mixture")},
    "fig17_larger": {"training": training_of("larger")},
    "fig18_gaussian": {"training": training_of("gaussian")},
    "fig03_nuclear_norm": COMPLETION,
    "table3_regularised": COMPLETION,
    "fig19_out_of_distribution": COMPLETION,
}
# The task where it is another than config.task; members of a family differ in nothing but the matrices' size.
TASKS = {
    "fig11_gpt_loss": DECODER["task"],
    "fig12_gpt_attention": DECODER["task"],
    **{
        figure: settings.merged(config, next(iter(families(config)[family].values())))["task"]
        for figure, family in [("fig16_mixture", "mixture"), ("fig17_larger", "larger"), ("fig18_gaussian", "gaussian")]
    },
}

for figure, inputs in FIGURES.items():

    rule:
        name:
            figure
        input:
            **inputs,
            library=library("scripts/figure.py", f"abrupt/figures/{figure}.py"),
        output:
            pdf=f"results/{SCALE}/figures/{figure}.pdf",
            png=report(
                f"results/{SCALE}/figures/{figure}.png",
                caption=f"../report/{figure}.rst",
                category=CATALOGUE[figure]["category"],
                labels={"figure": figure},
            ),
            csv=f"results/{SCALE}/figures/{figure}.csv",
        log:
            f"results/{SCALE}/logs/figures/{figure}.log",
        benchmark:
            f"results/{SCALE}/benchmarks/figures/{figure}.tsv"
        localrule: True
        conda:
            "../../envs/plot.yaml"
        threads: 1
        resources:
            mem_mb=growing(1000),
            runtime=growing(10),
            gpu=0,
        params:
            task=TASKS.get(figure, config["task"]),
        message:
            "Drawing {rule}"
        script:
            "../scripts/figure.py"


rule figures:
    """The figures of the pretrained model: part of `all`."""
    input:
        figure_files("figures"),


rule sweeps:
    """Models of other widths, depths and numbers of heads."""
    input:
        figure_files("sweeps"),


rule mixture:
    """One model of matrices of several sizes."""
    input:
        figure_files("mixture"),


rule larger:
    """Models of larger matrices."""
    input:
        figure_files("larger"),


rule gaussian:
    """A model of matrices with Gaussian factors."""
    input:
        figure_files("gaussian"),


rule gpt:
    """A decoder, trained on next-token prediction."""
    input:
        figure_files("gpt"),
