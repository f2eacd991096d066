"""Floating-point operations of one step: matrix products of the encoder only, a multiply and an add each.

Every product y = x W costs the same three times: forward, for the gradient of its input, and for that of its
weight. Pretraining needs all three everywhere (`abrupt.training.cost.training_flops`); a component run needs fewer.
Both operands of the two products inside attention are inputs.

| products of a layer           | pretraining | embeddings | attention          | mlp                |
|-------------------------------|-------------|------------|--------------------|--------------------|
| query, key and value maps     | 3           | 2          | 3, in layer 0: 2   | 2, in layer 0: 1   |
| inside attention (two)        | 3           | 3          | 3                  | 3, in layer 0: 1   |
| output map of attention       | 3           | 2          | 3                  | 2, in layer 0: 1   |
| first map of the MLP          | 3           | 2          | 2                  | 3, in layer 0: 2   |
| second map of the MLP         | 3           | 2          | 2                  | 3                  |

Layer 0 differs because nothing below it is trained. The read-out, under a thousandth of the whole at the paper's
sizes, is left out as in `training_flops`.
"""

from abrupt.models.bert import BertConfig
from abrupt.training.cost import training_flops

# Times that the products of (query-key-value, inside attention, output, first MLP map, second MLP map) are computed
# in one step: in layer 0, in the layers after it.
TIMES = {
    "embeddings": ((2, 3, 2, 2, 2), (2, 3, 2, 2, 2)),
    "attention": ((2, 3, 3, 2, 2), (3, 3, 3, 2, 2)),
    "mlp": ((1, 1, 1, 2, 3), (2, 3, 2, 3, 3)),
}
TIMES |= {name: TIMES["embeddings"] for name in ("token_embedding", "position_embedding", "both_embeddings")}


def forward_flops(config: BertConfig, batch_size: int, length: int) -> float:
    """Of one forward pass: a third of a training step."""
    return training_flops(config, batch_size, length) / 3


def component_flops(component: str, config: BertConfig, batch_size: int, length: int) -> float:
    """Of one step of the run that trains `component` alone."""
    hidden, intermediate = config.hidden_size, config.intermediate_size
    products = (3 * hidden**2, 2 * length * hidden, hidden**2, hidden * intermediate, hidden * intermediate)
    first, later = (
        sum(size * count for size, count in zip(products, times, strict=True)) for times in TIMES[component]
    )
    return 2.0 * batch_size * length * (first + (config.num_hidden_layers - 1) * later)


def baseline_flops(config: BertConfig, batch_size: int, eval_matrices: int, length: int) -> float:
    """Of one step of the authors' loop: an update, a second forward pass, a third on the evaluation batch."""
    forwards = forward_flops(config, batch_size, length) + forward_flops(config, eval_matrices, length)
    return training_flops(config, batch_size, length) + forwards
