"""Token embeddings: their norms and their principal components (paper, Figures 7 and 9)."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import torch
from sklearn.decomposition import PCA

from abrupt.models.bert import Bert
from abrupt.sampling import token_ids
from abrupt.task import Task

COMPONENTS = 3


def values_within(task: Task, largest_value: float) -> np.ndarray:
    """Return every value in [-largest_value, largest_value] that has a token, in order, (N,) float64."""
    unit = 10**task.decimals
    last = round(largest_value * unit)
    return np.arange(-last, last + 1) / unit


def embeddings_of(model: Bert, task: Task, values: np.ndarray) -> np.ndarray:
    """Return the embeddings of the tokens of `values` (N,), as (N, H) float64."""
    ids = token_ids(task, torch.from_numpy(values))
    return model.embeddings.word_embeddings.weight[ids.to(model.device)].detach().double().cpu().numpy()


def describe(values: np.ndarray, embeddings: np.ndarray, final: PCA) -> pd.DataFrame:
    """Return one row for each token.

        value                 the token's value
        norm                  the norm of its embedding
        distance              the distance of its embedding from the mean of `embeddings`
        pc1, pc2, pc3         coordinates on the principal components of `embeddings`
        final_pc1, final_pc2  coordinates on the principal components in `final`

    All coordinates count from the mean of `embeddings`.
    """
    own = PCA(COMPONENTS, svd_solver="full").fit_transform(embeddings)
    centred = embeddings - embeddings.mean(0)
    on_final = centred @ final.components_.T
    columns = {
        "value": values,
        "norm": np.linalg.norm(embeddings, axis=1),
        "distance": np.linalg.norm(centred, axis=1),
    }
    columns |= {f"pc{number + 1}": own[:, number] for number in range(COMPONENTS)}
    columns |= {f"final_pc{number + 1}": on_final[:, number] for number in range(final.n_components_)}
    return pd.DataFrame(columns)


def measure(models: Mapping[int, Bert], task: Task, seed: int, largest_value: float) -> pd.DataFrame:
    """Return `describe` at every step, with a column `step`.

    The principal components in `final` are those of the last step. `seed` is not used. Tokens of values beyond
    `largest_value` are left out, because those that training never showed keep their initial embedding.
    """
    values = values_within(task, largest_value)
    final = PCA(2, svd_solver="full").fit(embeddings_of(models[max(models)], task, values))
    tables = [
        describe(values, embeddings_of(model, task, values), final).assign(step=step) for step, model in models.items()
    ]
    return pd.concat(tables, ignore_index=True)
