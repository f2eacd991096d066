"""Figures: one rule each, called as the figure is; its code is workflow/abrupt/figures/<figure>.py.

Needs: figure data only, never a checkpoint; which, says workflow/figures.yaml. Gives: PDF, PNG and the CSV of what is
plotted.
"""

for figure, about in CATALOGUE.items():

    rule:
        name:
            figure
        input:
            **{name: files for name, files in RESULTS.figure_inputs(about).items()},
            changed=changed(*(f"{FOLDER}/figures/{figure}.{suffix}" for suffix in ("pdf", "png", "csv"))),
        output:
            pdf=f"{FOLDER}/figures/{figure}.pdf",
            png=report(
                f"{FOLDER}/figures/{figure}.png",
                caption=f"../report/{figure}.rst",
                category=about["category"],
                labels={"figure": figure},
            ),
            csv=f"{FOLDER}/figures/{figure}.csv",
        log:
            f"{FOLDER}/logs/figures/{figure}.log",
        benchmark:
            f"{FOLDER}/benchmarks/figures/{figure}.tsv"
        localrule: True
        conda:
            "../../envs/plot.yaml"
        threads: 1
        resources:
            mem_mb=growing(1000),
            runtime=growing(10),
            gpu=0,
        params:
            identity=identity,
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
