"""What the documentation says: the README's Python lines run, the README stays short, and every relative link leads
somewhere."""

import re
from dataclasses import asdict
from pathlib import Path

import pytest

from abrupt.models.bert import build_bert
from abrupt.storage.checkpoints import write_tensors
from abrupt.task import Task

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", ROOT / "results/README.md", *sorted((ROOT / "docs").rglob("*.md"))]
TASK = Task(3, 4, 1, 0.3, 2, 1, "uniform", 1)
MODEL = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": TASK.num_entries,
}


def test_readme_is_read_in_three_minutes():
    assert len(README.splitlines()) <= 120


def test_python_lines_of_the_readme_run_on_a_checkpoint(tmp_path):
    checkpoint = tmp_path / "step4000.safetensors"
    identity = {"kind": "pretraining", "task": asdict(TASK), "model": MODEL}
    write_tensors(checkpoint, build_bert(TASK, MODEL).state_dict(), {"identity": identity, "step": 4000})
    [lines] = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    path = re.search(r'path = "(.*)"', lines)[1]
    names = {}
    exec(lines.replace(path, str(checkpoint)), names)
    assert names["prediction"].shape == (8, TASK.num_entries)
    assert names["attention"].shape == (8, 1, 2, TASK.num_entries, TASK.num_entries)
    assert names["error"].isfinite()


def anchors(page: Path) -> set[str]:
    """What the headings of a Markdown page are called in links."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if "://" not in link:
            path, _, anchor = link.partition("#")
            target = page.parent / path if path else page
            assert target.exists(), link
            assert not anchor or anchor in anchors(target), link
