"""Position embeddings, and how they cluster by row and by column (paper, Figures 7 and 10)."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from sklearn.metrics import silhouette_samples

from abrupt.models.bert import Bert
from abrupt.task import Task


def embeddings_of(model: Bert, task: Task) -> np.ndarray:
    """Return the embeddings of the positions of a matrix, (rows*columns, H) float64."""
    return model.embeddings.position_embeddings.weight[: task.num_entries].detach().double().cpu().numpy()


def group_parts(embeddings: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Return for each position the distance between the mean of its group and the mean of all, (N,).

    `embeddings` is (N, H) and `groups` (N,). The sum of the squared distances is the variation between groups.
    """
    means = np.stack([embeddings[groups == group].mean(0) for group in groups])
    return np.linalg.norm(means - embeddings.mean(0), axis=1)


def describe(task: Task, embeddings: np.ndarray, final: PCA, perplexity: float) -> pd.DataFrame:
    """Return one row for each position.

        row, column             its place, from 1
        norm                    the norm of its embedding
        distance                the distance of its embedding from the mean embedding
        row_part, column_part   `group_parts` of the rows and of the columns
        silhouette_row          the silhouette when each row is a cluster
        silhouette_column       the silhouette when each column is a cluster
        final_pc1, final_pc2    coordinates on the principal components in `final`
        tsne1, tsne2            coordinates in the t-SNE map

    Silhouettes use Euclidean distances between embeddings, which stay the same when a vector is added to all of them.
    Distances in the t-SNE map mean nothing: the map is for the eye.
    """
    row, column = np.divmod(np.arange(task.num_entries), task.columns)
    centred = embeddings - embeddings.mean(0)
    on_final = centred @ final.components_.T
    # The exact method, started from the principal components, gives the same map every time.
    tsne = TSNE(perplexity=perplexity, init="pca", method="exact", random_state=0).fit_transform(embeddings)
    return pd.DataFrame(
        {
            "row": row + 1,
            "column": column + 1,
            "norm": np.linalg.norm(embeddings, axis=1),
            "distance": np.linalg.norm(centred, axis=1),
            "row_part": group_parts(embeddings, row),
            "column_part": group_parts(embeddings, column),
            "silhouette_row": silhouette_samples(embeddings, row),
            "silhouette_column": silhouette_samples(embeddings, column),
            "final_pc1": on_final[:, 0],
            "final_pc2": on_final[:, 1],
            "tsne1": tsne[:, 0],
            "tsne2": tsne[:, 1],
        }
    )


def measure(models: Mapping[int, Bert], task: Task, seed: int, perplexity: float) -> pd.DataFrame:
    """Return `describe` at every step, with a column `step`.

    The principal components in `final` are those of the last step. `seed` is not used.
    """
    final = PCA(2, svd_solver="full").fit(embeddings_of(models[max(models)], task))
    tables = [
        describe(task, embeddings_of(model, task), final, perplexity).assign(step=step)
        for step, model in models.items()
    ]
    return pd.concat(tables, ignore_index=True)
