"""Partners: which one observed entry decides whether a masked entry is predicted.

A query is a masked position. It is solved if its prediction is within 30 % of a truth that is not near 0. The gain of a
position for a query is P(solved | position observed) - P(solved | position masked): masks are drawn independently of
each other and of the matrix, so it is an effect. A partner of a query is a position whose gain stands out of what
permuted masks give, found one after the other, each with those before it masked. Partners are found on the first half
of the matrices; all else is measured on the second. The paper has no such analysis.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import pandas as pd
import torch
from torch import Tensor

from abrupt.analyses import mean_errors, per_checkpoint, ratio_of_sums
from abrupt.models.bert import Bert, Hooks
from abrupt.sampling import Batch, make_generator, token_ids
from abrupt.scores.partners import CONDITIONS, DECIDES, conditions
from abrupt.task import Task

SOLVED_WITHIN = 0.3  # of the truth
SMALLEST_TRUTH = 0.3  # standard deviations of an entry; 0.1 at the paper's factors and rank 1
LARGEST_VALUE = 3  # standard deviations of an entry, the largest of the paper's at rank 1: no network predicts beyond
PERMUTATIONS = 40
FALSE_PARTNERS = 0.05  # expected in a map of queries without any, in each round of the search
CHUNK_SIZE = 64
ATTENTION_MATRICES = 1024  # of the measuring half, at most: attention maps take more time than predictions
RATIO_EDGES = torch.linspace(-1.05, 2.05, 32)  # of prediction / truth


class Outcome(NamedTuple):
    """What became of the queries of a batch, as a weighted mean over matrices: sum(value) / sum(weight), both (B, T).

    Either the share that is solved (value 0 or 1, weight 1 for queries with a truth that is not near 0), or the slope
    of predictions on truths (value prediction * truth, weight truth^2), which knows no threshold. Both are 0 where the
    position is observed.
    """

    value: Tensor
    weight: Tensor

    def within(self, chosen: Tensor) -> "Outcome":
        """The outcome over the queries that are `chosen` (B, T) alone."""
        return Outcome(self.value * chosen, self.weight * chosen)

    def rate(self) -> Tensor:
        """The mean of each query, (T,); nan where there is none."""
        return self.value.sum(0) / self.weight.sum(0)


def far_from_zero(task: Task, batch: Batch) -> Tensor:
    """Bool (B, T): masked, with a truth that is not near 0."""
    target = batch.target.flatten(1)
    return ~batch.observed.flatten(1) & (target.abs() > SMALLEST_TRUTH * task.entry_variance**0.5)


def solved(task: Task, batch: Batch, prediction: Tensor) -> Outcome:
    """The share of queries that is solved; `prediction` is (B, T)."""
    target, weight = batch.target.flatten(1), far_from_zero(task, batch)
    near = (prediction - target).abs() <= SOLVED_WITHIN * target.abs()
    return Outcome((near & weight).float(), weight.float())


def slope(batch: Batch, prediction: Tensor) -> Outcome:
    """The slope of predictions on truths: 1 if all are right, 0 if all are 0 or luck."""
    target, masked = batch.target.flatten(1), ~batch.observed.flatten(1)
    return Outcome(prediction * target * masked, target**2 * masked)


def gains(outcome: Outcome, observed: Tensor) -> tuple[Tensor, Tensor]:
    """Mean outcome where a position is observed less that where it is masked, (T, T), query then position, and its
    standard error; nan where either never is, as for the query itself. `observed` is (B, T)."""
    observed = observed.to(outcome.value.dtype)
    value, weight = outcome.value.sum(0)[:, None], outcome.weight.sum(0)[:, None]
    value_observed, weight_observed = outcome.value.mT @ observed, outcome.weight.mT @ observed
    weight_masked = weight - weight_observed
    gain = value_observed / weight_observed - (value - value_observed) / weight_masked
    deviation = outcome.value - outcome.weight * (value / weight).mT.nan_to_num()
    variance = (deviation**2).sum(0)[:, None] / weight
    error = (variance * (1 / weight_observed + 1 / weight_masked)).sqrt()
    return torch.where(error.isfinite(), gain, torch.nan), torch.where(error.isfinite(), error, torch.nan)


def standing_out(outcome: Outcome, observed: Tensor) -> Tensor:
    """Gains in standard errors, (T, T); -inf where undefined."""
    gain, error = gains(outcome, observed)
    return (gain / error).nan_to_num(nan=-torch.inf, posinf=-torch.inf, neginf=-torch.inf)


def largest_by_chance(outcome: Outcome, observed: Tensor, generator: torch.Generator) -> float:
    """The gain, in standard errors, that the best position of a query exceeds by chance in FALSE_PARTNERS / T of
    cases: the masks of whole matrices are permuted, so that nothing depends on them."""
    best = []
    for _ in range(PERMUTATIONS):
        order = torch.randperm(len(observed), generator=generator)
        best.append(standing_out(outcome, observed[order]).amax(1))
    best = torch.cat(best)
    best = best[best.isfinite()]
    return best.quantile(1 - FALSE_PARTNERS / observed.shape[1]).item() if len(best) else torch.inf


def find_partners(outcome: Outcome, observed: Tensor, generator: torch.Generator) -> list[Tensor]:
    """The partners of every query, strongest first: a list of (T,) int64, -1 where a query has no more.

    In each round a query's strongest position is its next partner if it stands out of chance; the next round looks at
    the matrices in which it is masked. The gains alone do not give the number: with k positions of which one is enough,
    each has a gain of p^(k-1), and the last of them 1 once the others are masked.
    """
    found = []
    while True:
        strength, partner = standing_out(outcome, observed).max(1)
        partner[strength <= largest_by_chance(outcome, observed, generator)] = -1
        if (partner < 0).all():
            return found
        found.append(partner)
        outcome = outcome.within(~observed[:, partner] & (partner >= 0))


def positions_needed(outcome: Outcome, observed: Tensor, first: Tensor, generator: torch.Generator) -> Tensor:
    """What else a query needs where its first partner `first` (T,) is observed: bool (T, T), `first` included.

    In each round a query's strongest position is needed too if it stands out of chance, and if masking it halves the
    share that is solved at least; the next round looks at the matrices in which it is observed. A value read through
    any of several lines needs none of them; a fixed 2 x 2 minor needs its three other entries.
    """
    length = observed.shape[1]
    needed = torch.zeros(length, length + 1, dtype=torch.bool, device=observed.device)
    position = first
    while (position >= 0).any():
        needed[torch.arange(length), position] = True  # -1 is the last column, of nothing
        outcome = outcome.within(observed[:, position] & (position >= 0))
        strength, strongest = standing_out(outcome, observed).max(1)
        gain = gains(outcome, observed)[0].gather(1, strongest[:, None])[:, 0]
        rate = outcome.rate()
        chance = largest_by_chance(outcome, observed, generator)
        # The share solved is a mean of that with the position and that without, which is the gain less.
        share_observed = observed.float()[:, strongest].mean(0)
        without = rate - share_observed * gain
        position = torch.where((strength > chance) & (without <= gain), strongest, -1)
    return needed[:, :-1]


class Edges(NamedTuple):
    """The map of a model, all (T, T), query then position: `order` in which a partner was found (0: it is none), the
    same `by_slope`, `needed` (see `positions_needed`), and measured on other matrices `gain`, `gain_slope` and, for
    what was found, `gain_alone`: the gain with all other partners found masked."""

    order: Tensor
    by_slope: Tensor
    needed: Tensor
    gain: Tensor
    gain_slope: Tensor
    gain_alone: Tensor

    @property
    def partners(self) -> Tensor:
        """Those that decide, bool (T, T): see abrupt.scores.partners."""
        return (self.gain_alone >= DECIDES) & (self.needed.sum(1) == 1)[:, None]

    @property
    def first(self) -> Tensor:
        """The first partner of each query that decides, (T,) int64; -1 if it has none."""
        order = torch.where(self.partners, self.order, self.order.max() + 1)
        return torch.where(self.partners.any(1), order.argmin(1), -1)


def as_order(found: list[Tensor], observed: Tensor) -> Tensor:
    """What `find_partners` gives as (T, T) int64: 1 for a query's first partner, and so on; 0 for no partner."""
    length = observed.shape[1]
    order = torch.zeros(length, length + 1, dtype=torch.int64, device=observed.device)
    for number, position in enumerate(found, start=1):
        order[torch.arange(length), position] = number  # -1 is the last column, of nothing
    return order[:, :-1]


def map_edges(
    task: Task, finding: tuple[Batch, Tensor], measuring: tuple[Batch, Tensor], generator: torch.Generator
) -> Edges:
    """Partners found on one batch and measured on another, each given with its predictions (B, T)."""
    batch, prediction = finding
    observed = batch.observed.flatten(1)
    outcome = solved(task, batch, prediction)
    found = find_partners(outcome, observed, generator)
    by_slope = as_order(find_partners(slope(batch, prediction), observed, generator), observed)
    order = as_order(found, observed)
    first = found[0] if found else torch.full_like(observed[0], -1, dtype=torch.int64)
    needed = positions_needed(outcome, observed, first, generator)

    batch, prediction = measuring
    observed = batch.observed.flatten(1)
    outcome = solved(task, batch, prediction)
    alone = torch.full(order.shape, torch.nan, device=order.device)
    for number in range(1, len(found) + 1):
        others = ((order > 0) & (order != number)).float()
        none_observed = observed.float() @ others.mT == 0
        gain = gains(outcome.within(none_observed), observed)[0]
        alone = torch.where(order == number, gain, alone)
    gain, gain_slope = gains(outcome, observed)[0], gains(slope(batch, prediction), observed)[0]
    return Edges(order, by_slope, needed, gain, gain_slope, alone)


def mean_attention(model: Bert, batch: Batch) -> Tensor:
    """Attention (layers, heads, T, T), mean over the matrices in which the query is masked and the position observed;
    for the query itself, in which it is masked."""
    total, count = 0, 0
    for tokens, observed in zip(
        batch.tokens.split(CHUNK_SIZE), batch.observed.flatten(1).split(CHUNK_SIZE), strict=True
    ):
        weights = model.forward_with_attention(tokens)[1]
        itself = torch.eye(observed.shape[1], dtype=torch.bool, device=observed.device)
        chosen = (~observed[:, :, None] & (observed[:, None] | itself)).float()
        total = total + torch.einsum("blhqk,bqk->lhqk", weights, chosen)
        count = count + chosen.sum(0)
    return total / count


def predict(model: Callable[[Tensor], Tensor], tokens: Tensor) -> Tensor:
    """Predictions (B, T), in small parts: less time on a CPU, and less memory."""
    return torch.cat([model(part) for part in tokens.split(CHUNK_SIZE)])


def roles(task: Task, partners: Tensor) -> dict[str, Tensor]:
    """What a position is to a query that has partners, each bool (T, T): a partner, another position of a line that
    holds query and partner, one of its other line, or none of these."""
    position = torch.arange(task.num_entries, device=partners.device)
    row, column = position // task.columns, position % task.columns
    itself = position[:, None] == position
    in_row, in_column = (row[:, None] == row) & ~itself, (column[:, None] == column) & ~itself
    by_row, by_column = (partners & in_row).any(1)[:, None], (partners & in_column).any(1)[:, None]
    lines = in_row | in_column
    same_line = (in_row & by_row) | (in_column & by_column)
    groups = {
        "partner": partners,
        "same_line": same_line & ~partners,
        "other_line": lines & ~same_line & ~partners,
        "elsewhere": ~lines & ~itself & ~partners,
    }
    return {name: group & partners.any(1)[:, None] for name, group in groups.items()}


def most_attended(attention: Tensor, partners: Tensor) -> Tensor:
    """Of each query with partners, the position with the most `attention` (T, T) that is neither partner nor the query
    itself: bool (T, T)."""
    itself = torch.eye(len(partners), dtype=torch.bool, device=partners.device)
    best = attention.masked_fill(partners | itself, -1).argmax(1)
    return torch.zeros_like(partners).scatter(1, best[:, None], True) & partners.any(1)[:, None]


def changed_values(
    model: Callable[[Tensor], Tensor],
    task: Task,
    batch: Batch,
    prediction: Tensor,
    edges: Edges,
    attention: Tensor,
    generator: torch.Generator,
) -> Iterator[dict]:
    """One observed entry of each matrix is changed: its sign (`flip`), or to its value in another matrix (`resample`).

    Rows: intervention; role, what the position is to the query (see `roles`; `as_attended` gets the most attention from
    any head but for the partner); count, of queries that were solved, with one partner observed, or any for the other
    roles, and with prediction * new / old value in the range of entries; flipped, the share whose prediction changes
    sign; stays, the slope of predictions on those before; follows, that on those before * new / old value; each with a
    standard error over matrices; attention of the strongest head, `attention` being (T, T).
    """
    observed, target = batch.observed.flatten(1), batch.target.flatten(1)
    position = torch.multinomial(observed.float().cpu() + 1e-9, 1, generator=generator).to(observed.device)
    old = target.gather(1, position)
    groups = {**roles(task, edges.partners), "as_attended": most_attended(attention, edges.partners)}
    partners_observed = observed.float() @ edges.partners.float().mT
    right = solved(task, batch, prediction).value.bool() & observed.gather(1, position)
    for name, new in (("flip", -old), ("resample", target.roll(1, 0).gather(1, position))):
        after = predict(model, batch.tokens.scatter(1, position, token_ids(task, new)))
        expected = prediction * new  # of the old value, which may be 0
        possible = expected.abs() <= LARGEST_VALUE * task.entry_variance**0.5 * old.abs()
        for role, group in groups.items():
            any_observed = partners_observed == 1 if role == "partner" else partners_observed > 0
            chosen = right & group.mT[position[:, 0]] & any_observed & possible
            count = int(chosen.sum())
            if count < 2:
                continue
            stays = ratio_of_sums((after * prediction * chosen).sum(1), (prediction**2 * chosen).sum(1))
            follows = ratio_of_sums((after * old * expected * chosen).sum(1), (expected**2 * chosen).sum(1))
            flipped = ratio_of_sums(((after * prediction < 0) & chosen).sum(1), chosen.sum(1))
            yield {
                "intervention": name,
                "role": role,
                "count": count,
                "flipped": flipped[0],
                "flipped_se": flipped[1],
                "stays": stays[0],
                "stays_se": stays[1],
                "follows": follows[0],
                "follows_se": follows[1],
                "attention": attention.mT[position[:, 0]][chosen].mean().item(),
            }


def without_edges(layer: int, cut: Tensor) -> Hooks:
    """Hooks that remove the edges in `cut`, bool (T, T), from one layer's attention (counted from 0), in all heads, and
    scale the rest of each query's attention to sum to 1."""

    def cut_and_scale(index: int, weights: Tensor) -> Tensor:
        if index != layer:
            return weights
        kept = weights.masked_fill(cut, 0)
        return kept / kept.sum(-1, keepdim=True).clamp(min=1e-9)

    return Hooks(attention_weights=cut_and_scale)


def cut_edges(model: Bert, batch: Batch, edges: Edges, attention: Tensor) -> Iterator[dict]:
    """Attention from every query to its partners is removed in one layer, or, as a control, that to the position that
    gets the most of it there but for partners and the query itself.

    Rows: edge (none, partner, as_attended), layer (from 1), attention (cut from the strongest head, mean over queries
    with partners), the columns of `mean_errors`, and mse_zero, the masked-entry MSE of predicting 0 on these
    matrices. `attention` is (layers, heads, T, T).
    """
    masked = ~batch.observed
    about = {"mse_zero": ((batch.target**2 * masked).sum() / masked.sum()).item()}
    yield {"edge": "none", **mean_errors(predict(model, batch.tokens), batch), **about}
    partners = edges.partners
    if not partners.any():
        return
    for layer in range(len(attention)):
        for edge, cut in (
            ("partner", partners),
            ("as_attended", most_attended(attention[layer].amax(0), partners)),
        ):
            hooks = without_edges(layer, cut)
            prediction = predict(lambda tokens, hooks=hooks: model.forward_with_hooks(tokens, hooks), batch.tokens)
            removed = (attention[layer].nan_to_num() * cut).sum(-1).amax(0)[partners.any(1)].mean().item()
            yield {"edge": edge, "layer": layer + 1, "attention": removed, **mean_errors(prediction, batch), **about}


def head_attention(task: Task, edges: Edges, attention: Tensor) -> Iterator[dict]:
    """What heads attend to from masked queries, a row a head: layer and head (from 1); attention to the first partner
    (of queries that have one), to an observed other position of the row, to one of the column, to the query itself:
    means over queries. `attention` is (layers, heads, T, T)."""
    position = torch.arange(task.num_entries, device=attention.device)
    row, column = position // task.columns, position % task.columns
    itself = position[:, None] == position
    groups = {
        "partner": edges.order.new_zeros(edges.order.shape).bool(),
        "row": (row[:, None] == row) & ~itself,
        "column": (column[:, None] == column) & ~itself,
        "itself": itself,
    }
    first = edges.first
    groups["partner"][position[first >= 0], first[first >= 0]] = True
    for layer, of_layer in enumerate(attention):
        for head, of_head in enumerate(of_layer):
            means = {f"to_{name}": of_head[group].mean().item() for name, group in groups.items()}
            yield {"layer": layer + 1, "head": head + 1, **means}


def outcomes_by_condition(task: Task, batch: Batch, prediction: Tensor, edges: Edges) -> Iterator[dict]:
    """The masked entries in each of CONDITIONS (see abrupt.scores.partners) that any is in.

    Rows of part `conditions`: condition, count, mse_masked with its standard error over matrices, slope, and share
    solved; of part `ratios`: condition, ratio (of prediction to truth, the middle of a bin of 0.1; the first and last
    hold all beyond), share of the entries with a truth that is not near 0.
    """
    state = conditions(task, edges.partners.cpu().numpy(), edges.needed.cpu().numpy(), batch.observed.cpu().numpy())
    state = torch.from_numpy(state).to(prediction.device)
    target, masked = batch.target.flatten(1), ~batch.observed.flatten(1)
    right, slopes, far = solved(task, batch, prediction), slope(batch, prediction), far_from_zero(task, batch)
    low, high = RATIO_EDGES[0].item(), RATIO_EDGES[-1].item()
    middles = ((RATIO_EDGES[1:] + RATIO_EDGES[:-1]) / 2).tolist()
    for number, name in enumerate(CONDITIONS):
        chosen = (state == number) & masked
        if not chosen.any():
            continue
        mse, error = ratio_of_sums(((prediction - target) ** 2 * chosen).sum(1), chosen.sum(1))
        yield {
            "part": "conditions",
            "condition": name,
            "count": int(chosen.sum()),
            "mse_masked": mse,
            "mse_masked_se": error,
            "slope": ((slopes.value * chosen).sum() / (slopes.weight * chosen).sum()).item(),
            "solved": ((right.value * chosen).sum() / (right.weight * chosen).sum()).item(),
        }
        ratio = (prediction / target)[chosen & far].cpu().clamp(low + 1e-3, high - 1e-3)
        shares = torch.histogram(ratio, RATIO_EDGES).hist / max(len(ratio), 1)
        for middle, share in zip(middles, shares.tolist(), strict=True):
            yield {"part": "ratios", "condition": name, "ratio": round(middle, 2), "share": share}


def edge_rows(edges: Edges, attention: Tensor) -> pd.DataFrame:
    """One row for each query and other position (both from 1): the columns of `Edges`, and the attention of the first
    layer's strongest head, `attention` being (layers, heads, T, T)."""
    query, key = (~torch.eye(len(edges.gain), dtype=torch.bool)).nonzero(as_tuple=True)
    columns = {**edges._asdict(), "attention": attention[0].amax(0)}
    columns = {name: values.cpu()[query, key].float().numpy().round(3) for name, values in columns.items()}
    table = pd.DataFrame({"query": query + 1, "key": key + 1, **columns})
    return table.rename(columns={"order": "partner", "by_slope": "partner_by_slope"})


def query_rows(task: Task, batch: Batch, prediction: Tensor) -> pd.DataFrame:
    """One row a query (from 1): the share solved, the slope, and the masked-entry MSE."""
    target, masked = batch.target.flatten(1), ~batch.observed.flatten(1)
    squared = ((prediction - target) ** 2 * masked).sum(0) / masked.sum(0)
    columns = {
        "solved": solved(task, batch, prediction).rate(),
        "slope": slope(batch, prediction).rate(),
        "mse_masked": squared,
    }
    table = pd.DataFrame({name: values.cpu().numpy().round(5) for name, values in columns.items()})
    return table.assign(query=range(1, task.num_entries + 1))


@torch.no_grad()
def partners_of(model: Bert, task: Task, batch: Batch) -> pd.DataFrame:
    """The parts of the analysis, one below the other, told apart by the column `part`, each with columns of its own:
    edges, queries, conditions, ratios, heads, interventions (`changed_values`), cuts (`cut_edges`).
    """
    generator = make_generator(0, "partners")
    prediction = predict(model, batch.tokens)
    half = len(prediction) // 2
    finding, measuring = Batch(*(of[:half] for of in batch)), Batch(*(of[half:] for of in batch))
    edges = map_edges(task, (finding, prediction[:half]), (measuring, prediction[half:]), generator)
    attended = Batch(*(of[:ATTENTION_MATRICES] for of in measuring))
    attention = mean_attention(model, attended)
    any_head = attention.amax((0, 1))
    changed = changed_values(model, task, measuring, prediction[half:], edges, any_head, generator)
    parts = [
        edge_rows(edges, attention).assign(part="edges"),
        query_rows(task, measuring, prediction[half:]).assign(part="queries"),
        pd.DataFrame(outcomes_by_condition(task, measuring, prediction[half:], edges)),
        pd.DataFrame(head_attention(task, edges, attention)).assign(part="heads"),
        pd.DataFrame(changed if edges.partners.any() else []).assign(part="interventions"),
        pd.DataFrame(cut_edges(model, attended, edges, attention)).assign(part="cuts"),
    ]
    return pd.concat([part for part in parts if len(part)], ignore_index=True)


measure = per_checkpoint(partners_of)
