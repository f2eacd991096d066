"""The README's table of figures, made from the workflow's own catalogue and costs: `make readme`."""

import math
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

SCALES = ("smoke", "cpu", "paper")
BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"


def readme_table(catalogue: dict[str, dict[str, Any]], costs: pd.DataFrame) -> str:
    """The README's table of figures, in Markdown; `costs` has columns figure, scale and job_minutes."""
    minutes = costs.pivot(index="figure", columns="scale", values="job_minutes").reindex(columns=SCALES)
    lines = [
        "| figure = rule | target | paper | shows | claims | " + " | ".join(f"`{scale}`" for scale in SCALES) + " |",
        "|" + "---|" * (5 + len(SCALES)),
    ]
    for figure, about in catalogue.items():
        claims = ", ".join(map(str, about["claims"]))
        cells = [_minutes(minutes, figure, scale) for scale in SCALES]
        about_it = [f"`{figure}`", f"`{about['target']}`", about["paper"], about["shows"], claims]
        lines.append(f"| {' | '.join(about_it + cells)} |")
    return "\n".join(lines)


def _minutes(minutes: pd.DataFrame, figure: str, scale: str) -> str:
    value = minutes[scale].get(figure, math.nan)
    return "not measured" if math.isnan(value) else f"{value:.1f}"


def with_table(readme: str, table: str) -> str:
    """`readme` with what stands between its two marks replaced by `table`."""
    before, rest = readme.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n{table}\n{END}{after}"


def current_readme(root: Path) -> str:
    """The README of the repository at `root`, with the table as it should be."""
    catalogue = yaml.safe_load((root / "workflow" / "figures.yaml").read_text())
    costs = pd.read_csv(root / "workflow" / "figure_costs.tsv", sep="\t")
    return with_table((root / "README.md").read_text(), readme_table(catalogue, costs))


def with_measured(costs: pd.DataFrame, measured: list[pd.DataFrame]) -> pd.DataFrame:
    """`costs` with the rows of figures and scales that were `measured` in their place; in alphabetical order."""
    rows = pd.concat([costs, *measured]).drop_duplicates(["figure", "scale"], keep="last")
    return rows.sort_values(["figure", "scale"])


if __name__ == "__main__":  # make readme [COSTS="results/cpu/benchmarks/figure_costs.tsv"]
    repository = Path(__file__).resolve().parents[2]
    path = repository / "workflow" / "figure_costs.tsv"
    committed, *measured = [pd.read_csv(file, sep="\t") for file in (path, *sys.argv[1:])]
    with_measured(committed, measured).to_csv(path, sep="\t", index=False)
    (repository / "README.md").write_text(current_readme(repository))
