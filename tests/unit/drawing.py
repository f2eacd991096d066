"""What the tests of figures share: the catalogue, a figure's inputs by it, and what a figure shows."""

import io
from pathlib import Path

import yaml
from matplotlib.figure import Figure
from matplotlib.text import Text

WORKFLOW = Path(__file__).resolve().parents[2] / "workflow"
CATALOGUE = yaml.safe_load((WORKFLOW / "figures.yaml").read_text(encoding="utf-8"))


def chosen(files: dict[str, list[str]], figure: str) -> dict[str, str | list[str]]:
    """What the `inputs` of the figure's entry stand for among the `files`."""
    found = {}
    for argument, source in CATALOGUE[figure]["inputs"].items():
        which, _, name = source.rpartition(" ")
        found[argument] = {"": files[name], "first": files[name][0], "last": files[name][-1]}[which]
    return found


def rendered(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=60)
    return buffer.getvalue()


def texts(figure: Figure) -> str:
    return " ".join(text.get_text() for text in figure.findobj(Text))
