"""The catalogue of figures, the captions, and the page that is made of them."""

import inspect
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from docutils.core import publish_doctree
from drawing import CATALOGUE
from jinja2 import StrictUndefined, Template

from abrupt.claims import CLAIMS
from abrupt.docs import PAGE, current_page, figures_page

ROOT = Path(__file__).resolve().parents[2]
CONFIG = yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8"))
CAPTIONS = sorted((ROOT / "workflow/report").glob("*.rst"))


@pytest.mark.parametrize("figure", CATALOGUE)
def test_figure_has_a_caption_and_code_that_takes_its_inputs(figure):
    assert ROOT / f"workflow/report/{figure}.rst" in CAPTIONS
    module = import_module(f"abrupt.figures.{figure}")
    assert list(inspect.signature(module.tidy).parameters) == ["task", *CATALOGUE[figure]["inputs"]]
    assert list(inspect.signature(module.draw).parameters) == ["table", "task"]


@pytest.mark.parametrize("figure", CATALOGUE)
def test_entry_has_the_keys_that_the_catalogue_explains(figure):
    assert {"paper", *CATALOGUE[figure]} == {"category", "paper", "shows", "target", "inputs"}


def test_categories_are_in_their_order():
    categories = [about["category"] for about in CATALOGUE.values()]
    assert categories == sorted(categories)


@pytest.mark.parametrize("path", CAPTIONS, ids=lambda path: path.stem)
def test_caption_is_correct_restructured_text(path):
    template = Template(path.read_text(encoding="utf-8"), undefined=StrictUndefined)
    caption = template.render(snakemake=SimpleNamespace(config=CONFIG))
    publish_doctree(caption, settings_overrides={"halt_level": 1, "report_level": 5})


def test_page_has_a_table_for_each_category():
    entries = {
        "b": {"category": "1. B", "shows": "a matrix", "target": "sweeps"},
        "a": {"category": "2. A", "shows": "a curve", "target": "figures", "paper": "Figure 2"},
    }
    page = figures_page(entries, {"a": [1, 2]})
    code = "[a](../workflow/abrupt/figures/a.py)"
    row = f"| {code} | a curve | Figure 2 | 1, 2 | `figures` | [caption](../workflow/report/a.rst) |"
    assert page.index("## 1. B") < page.index("| a matrix |  |  |") < page.index("## 2. A") < page.index(row)


def test_page_is_current_and_has_every_claim_beside_a_figure():
    page = current_page()
    assert PAGE.read_text(encoding="utf-8") == page, "run `make docs`"
    numbers = {int(number) for line in page.splitlines() if "[caption]" in line for number in claims_column(line)}
    assert numbers == {claim.number for claim in CLAIMS}


def claims_column(line):
    return filter(None, line.split(" | ")[3].split(", "))
