"""docs/figures.md, made from the catalogue of figures and from the code of the claims: `python -m abrupt.docs`."""

from itertools import groupby
from pathlib import Path
from typing import Any

import yaml

from abrupt.claims import CLAIMS, claims_by_figure

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "figures.md"
INTRODUCTION = """# Figures

This page is made from [workflow/figures.yaml](../workflow/figures.yaml) by `make docs`.

- `snakemake --cores 8 fig02_loss` makes one figure and what it needs. The targets in the tables make several:
  `figures`, part of the default run, those of the main run; the others train models of their own; `paper_figures` makes
  all of them.
- `results/<name>/figures/` has a PDF, a PNG and the CSV of what is plotted. `tidy` in a figure's code makes that table
  and `draw` plots it.
- A figure is named by its code's file. A claim stands beside the figures in which one sees what it rests on; all
  claims are listed below.
- To add a figure, write its code, its caption and its entry in the catalogue, and run `make docs`.
"""


def figures_page(catalogue: dict[str, dict[str, Any]], claims: dict[str, list[int]]) -> str:
    """The page in Markdown: a table for each category, then the claims."""
    parts = [INTRODUCTION]
    for category, figures in groupby(catalogue.items(), lambda item: item[1]["category"]):
        parts.append(f"## {category}\n\n| figure | shows | paper | claims | target | caption |\n|{'---|' * 6}")
        for figure, about in figures:
            numbers = ", ".join(map(str, claims.get(figure, [])))
            code = f"[{figure}](../workflow/abrupt/figures/{figure}.py)"
            caption = f"[caption](../workflow/report/{figure}.rst)"
            cells = [code, about["shows"], about.get("paper", ""), numbers, f"`{about['target']}`", caption]
            parts.append(f"| {' | '.join(cells)} |")
        parts.append("")
    parts += ["## Claims of the paper\n", "| claim | statement | where the paper makes it |", "|---|---|---|"]
    parts += [f"| {claim.number} | {claim.statement} | {claim.source} |" for claim in CLAIMS]
    return "\n".join(parts) + "\n"


def current_page() -> str:
    """The page as docs/figures.md should have it."""
    catalogue = yaml.safe_load((ROOT / "workflow/figures.yaml").read_text(encoding="utf-8"))
    return figures_page(catalogue, claims_by_figure())


if __name__ == "__main__":  # make docs
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(current_page(), encoding="utf-8")
