"""docs/figures.md, made from the catalogue of figures and from the code of the claims: `python -m abrupt.docs`."""

import ast
from itertools import groupby
from pathlib import Path
from typing import Any

import yaml

from abrupt.claims import CLAIMS

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "figures.md"
INTRODUCTION = """# Figures

This page is made from [workflow/figures.yaml](../workflow/figures.yaml) by `make docs`.

- `snakemake --cores 8 fig02_loss` makes one figure and what it needs. The targets in the tables make several:
  `figures`, part of the default run, those of the main run; the others train models of their own; `paper_figures` makes
  all of them.
- `results/<scale>/figures/` has a PDF, a PNG and the CSV of what is plotted. `tidy` in a figure's code makes that table
  and `draw` plots it.
- A figure is named by its code's file. A claim stands beside the figures in which one sees what it rests on; all
  claims are listed below.
- To add a figure, write its code, its caption and its entry in the catalogue, and run `make docs`.
"""


def claims_by_figure(sources: list[str]) -> dict[str, list[int]]:
    """Figure -> numbers of the claims with a finding in it, from the `sources` of the claims' code.

    A finding is a call whose first two arguments are a claim's number and a figure, which is a text or the variable of
    a loop over tuples that begin with one.
    """
    found: dict[str, set[int]] = {}
    for function in (node for source in sources for node in ast.walk(ast.parse(source))):
        if not isinstance(function, ast.FunctionDef):
            continue
        looped = {}
        for loop in (node for node in ast.walk(function) if isinstance(node, ast.For)):
            if isinstance(loop.target, ast.Tuple) and isinstance(loop.iter, ast.Tuple):
                looped[ast.unparse(loop.target.elts[0])] = [row.elts[0] for row in loop.iter.elts]
        for call in (node for node in ast.walk(function) if isinstance(node, ast.Call)):
            match call.args:
                case [ast.Constant(value=int(claim)), ast.Constant() | ast.Name() as figure, *_]:
                    for name in looped.get(ast.unparse(figure), [figure]):
                        found.setdefault(ast.literal_eval(name), set()).add(claim)
    return {figure: sorted(claims) for figure, claims in found.items()}


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
    parts += [f"| {number} | {statement} | {source} |" for number, (statement, source) in CLAIMS.items()]
    return "\n".join(parts) + "\n"


def current_page() -> str:
    """The page as docs/figures.md should have it."""
    sources = [path.read_text(encoding="utf-8") for path in sorted((ROOT / "workflow/abrupt/claims").glob("*.py"))]
    catalogue = yaml.safe_load((ROOT / "workflow/figures.yaml").read_text(encoding="utf-8"))
    return figures_page(catalogue, claims_by_figure(sources))


if __name__ == "__main__":  # make docs
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(current_page(), encoding="utf-8")
