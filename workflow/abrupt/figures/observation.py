"""What a figure shows in this run, in a sentence, where the claims that rest on it do not say it."""

from typing import NamedTuple


class Observation(NamedTuple):
    """`here`: a sentence with numbers of this run. `disagrees`: what the paper reports there that is not so here, or
    nothing."""

    here: str
    disagrees: str = ""


def against(here: str, reported: str, holds: bool) -> Observation:
    """An observation beside what the paper reports of the same figure."""
    return Observation(f"{here}; as the paper reports, {reported}") if holds else Observation(here, reported)
