"""Single components trained alone (claim 6), and what their curves say of the cause of the drop (claim 7)."""

from abrupt.claims.finding import NOT_YET, Claim, Criterion, NotDecided, Part, Value, onset, ratio
from abrupt.claims.seed_run import SeedRun

NO_PLATEAU = 0.1  # onset as a share of normal training's
PAPER_LATEST_POSITION_ONSET = 40_000
CURVES = "components/*/seed*/training.csv"


def component_onset(run: SeedRun, name: str) -> Value:
    if name not in run.component_drops:
        raise NotDecided("not among components.names")
    return onset(run.component_drops[name])


def plateau(name: str, criterion: Criterion) -> Part:
    """Whether a component trained alone has a plateau. It is measured by that of normal training, so there must be a
    drop that ends this one."""

    def measure(run: SeedRun) -> Value:
        if not run.drop.found:
            raise NotDecided(f"normal training has no drop by step {run.drop.last_step}")
        return ratio(component_onset(run, name), run.onset)

    quantity = f"{name.replace('_', ' ')} alone: length of the plateau / of normal training's"
    return Part("fig08_components", quantity, "ratio", CURVES, measure, criterion)


def relative_onset(name: str, criterion: Criterion) -> Part:
    """Whether a component trained alone drops before normal training or after it."""
    return Part(
        "fig08_components",
        f"{name.replace('_', ' ')} alone: onset / normal onset",
        "ratio",
        CURVES,
        lambda run: ratio(component_onset(run, name), run.onset),
        criterion,
    )


COMPONENTS = Claim(
    6,
    "Trained alone, token embeddings and MLPs show no plateau; attention does, and drops earlier than normal training; "
    "position embeddings drop last.",
    "Figure 8",
    (
        plateau("token_embedding", Criterion(most=NO_PLATEAU, note="no plateau")),
        plateau("mlp", Criterion(most=NO_PLATEAU, note="no plateau")),
        plateau("attention", Criterion(least=NO_PLATEAU, strict=True, note="a plateau")),
        relative_onset("attention", Criterion(most=1, strict=True, note="earlier")),
        relative_onset("position_embedding", Criterion(least=1, strict=True, note="later")),
        Part(
            "fig08_components",
            "position embedding alone: onset",
            "updates",
            CURVES,
            lambda run: component_onset(run, "position_embedding"),
            Criterion(most=PAPER_LATEST_POSITION_ONSET, strict=True, note="paper scale"),
            only_at="paper",
        ),
    ),
)

CAUSE = Claim(
    7,
    "Learning the required structure through attention layers and embeddings causes the sudden drop.",
    "a hypothesis of the paper",
    (Part("fig08_components", "earlier drop with the structure given", "", "", None, unjudged=NOT_YET),),
)
