"""The guide to the figures and the README's table, from a small catalogue."""

import math
from pathlib import Path

import pandas as pd
import yaml

from abrupt.guide import ILLUSTRATION, guide
from abrupt.readme import BEGIN, END, current_readme, readme_table, with_table

ROOT = Path(__file__).resolve().parents[2]
CATALOGUE = {
    "drop": {"paper": "Figure 1", "category": "1. A", "shows": "the drop", "claims": [1, 2]},
    "matrix": {"paper": "", "category": "1. A", "shows": "a matrix", "claims": []},
}


def finding(figure, quantity, verdict, measured=0.25):
    about = {"claim": 1, "criterion": "< 1", "unit": "ratio", "per_seed": "seed 0: no drop"}
    return {"figure": figure, "quantity": quantity, "verdict": verdict, "measured": measured, **about}


def test_what_held_and_what_did_not_are_told_apart():
    claims = pd.DataFrame([finding("drop", "onset", "held"), finding("drop", "sharpness", "not held", math.nan)])
    drop, matrix = guide(CATALOGUE, claims).to_dict("records")
    assert drop["in_this_run"] == "onset: 0.25 ratio (claim 1: < 1)"
    assert drop["disagrees"] == "sharpness: seed 0: no drop (claim 1: < 1)"
    assert matrix["in_this_run"] == ILLUSTRATION and matrix["disagrees"] == ""


def test_a_finding_without_a_verdict_says_so():
    (row,) = guide({"drop": CATALOGUE["drop"]}, pd.DataFrame([finding("drop", "onset", "not tested yet")])).itertuples()
    assert row.in_this_run == "onset: 0.25 ratio (claim 1: not tested yet)"


def test_a_finding_without_a_number_is_named_without_one():
    row = finding("drop", "cause", "not tested yet", math.nan) | {"per_seed": math.nan}  # as read from a CSV
    (row,) = guide({"drop": CATALOGUE["drop"]}, pd.DataFrame([row])).itertuples()
    assert row.in_this_run == "cause (claim 1: not tested yet)"


def test_readme_table_has_a_row_for_each_figure_and_its_cost_at_each_scale():
    costs = pd.DataFrame({"figure": ["drop"], "scale": ["cpu"], "job_minutes": [81.04]})
    header, _, drop, matrix = readme_table(CATALOGUE, costs).splitlines()
    assert header.endswith("| `smoke` | `cpu` | `paper` |")
    assert drop == "| `drop` | Figure 1 | the drop | 1, 2 | not measured | 81.0 | not measured |"
    assert matrix == "| `matrix` |  | a matrix |  | not measured | not measured | not measured |"


def test_only_what_is_between_the_marks_is_replaced():
    assert with_table(f"a\n{BEGIN}\nold\n{END}\nb\n", "new") == f"a\n{BEGIN}\nnew\n{END}\nb\n"


def test_readme_is_what_make_readme_gives():
    assert (ROOT / "README.md").read_text() == current_readme(ROOT), "run `make readme`"


def test_every_figure_has_code_and_a_caption():
    for figure in yaml.safe_load((ROOT / "workflow/figures.yaml").read_text()):
        assert (ROOT / f"workflow/abrupt/figures/{figure}.py").exists(), figure
        assert (ROOT / f"workflow/report/{figure}.rst").exists(), figure
