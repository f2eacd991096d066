"""The catalogue of figures, workflow/figures.yaml: what each figure is about, what it reads, which target makes it."""

from dataclasses import dataclass
from pathlib import Path

import yaml

PATH = Path(__file__).resolve().parents[2] / "figures.yaml"


@dataclass(frozen=True)
class Entry:
    """One figure of the catalogue; the head of workflow/figures.yaml says what each field means."""

    category: str
    shows: str
    target: str
    inputs: list[str]
    paper: str = ""
    family: str = ""
    seeds: str = "all"


def read_catalogue() -> dict[str, Entry]:
    """Figure -> its entry, in the order of the report. Raises TypeError for a key that an entry does not have."""
    return {figure: Entry(**about) for figure, about in yaml.safe_load(PATH.read_text(encoding="utf-8")).items()}
