"""Today's alternative to our training loop: what the authors' released code does, written afresh.

Hugging Face's `BertModel` with eager attention and a linear read-out; `torch.optim.Adam` as it comes. Every step
samples a batch, updates, predicts the same batch a second time to measure losses, predicts 64 fresh matrices, and
reads five numbers back from the device. Left out, in the baseline's favour: printing a matrix every step, logging
to a server. The batches are drawn by our own sampler, so that both loops can be given the same data.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import BertConfig as HfConfig
from transformers import BertModel as HfModel

from abrupt.models.bert import Bert, BertConfig
from abrupt.sampling import Batch, sample_batch
from abrupt.task import Task

EVAL_MATRICES = 64


class AuthorsModel(nn.Module):
    """Hugging Face's encoder and a linear read-out: token ids (B, T) -> predicted entries (B, T)."""

    def __init__(self, config: BertConfig):
        super().__init__()
        hf_config = HfConfig(
            vocab_size=config.vocab_size,
            hidden_size=config.hidden_size,
            num_hidden_layers=config.num_hidden_layers,
            num_attention_heads=config.num_attention_heads,
            intermediate_size=config.intermediate_size,
            max_position_embeddings=config.max_position_embeddings,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
            attn_implementation="eager",
        )
        self._backbone = HfModel(hf_config, add_pooling_layer=False)
        self.read_out = nn.Linear(config.hidden_size, 1)

    @classmethod
    def with_weights_of(cls, model: Bert) -> "AuthorsModel":
        """The same function as `model`, which has no token types."""
        twin = cls(model.config)
        twin.load_state_dict(model.hf_state_dict(), strict=False)
        # Of one type only and the same for every token: zero, and frozen, or the two would part.
        twin._backbone.embeddings.token_type_embeddings.weight.requires_grad_(False).zero_()
        return twin

    def forward(self, tokens: Tensor) -> Tensor:
        hidden = self._backbone(tokens, attention_mask=torch.ones_like(tokens)).last_hidden_state
        return self.read_out(hidden).squeeze(-1)


@contextmanager
def as_pytorch_comes() -> Iterator[None]:
    """Full-precision products and no determinism, as PyTorch comes, whatever our loop has set. What else
    `prepare_torch` sets for the process, memory kept and denormal numbers flushed, stays: in the baseline's favour."""
    precision, deterministic = torch.get_float32_matmul_precision(), torch.are_deterministic_algorithms_enabled()
    torch.set_float32_matmul_precision("highest")
    torch.use_deterministic_algorithms(False)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(deterministic)
        torch.set_float32_matmul_precision(precision)


class AuthorsLoop:
    """The authors' loop from the weights of `model`; the batch of update t is (seed, "pretrain", t), as in ours.

    `training_loss` is that of the last training forward pass, a tensor; `losses` the five numbers read since.
    """

    def __init__(
        self, model: Bert, task: Task, batch_size: int, learning_rate: float, betas: tuple[float, float], device: str
    ):
        self.model = AuthorsModel.with_weights_of(model).to(device)
        self.task, self.batch_size, self.device = task, batch_size, device
        trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.Adam(trained, lr=learning_rate, betas=betas)
        self.step = 0
        self.losses: dict[str, float] = {}

    def advance(self) -> None:
        """One update, and the measurements that the authors make after each."""
        with as_pytorch_comes():
            batch = sample_batch(self.task, self.batch_size, 0, "pretrain", self.step, self.device)
            self.model.train()
            self.optimizer.zero_grad()
            self.training_loss = F.mse_loss(self.model(batch.tokens), batch.target.flatten(1))
            self.training_loss.backward()
            self.optimizer.step()
            self._measure(batch)
            self.step += 1

    @torch.no_grad()
    def _measure(self, batch: Batch) -> None:
        self.model.eval()
        prediction, target, observed = self.model(batch.tokens), batch.target.flatten(1), batch.observed.flatten(1)
        self.losses = {
            "all": F.mse_loss(prediction, target).item(),
            "masked": F.mse_loss(prediction[~observed], target[~observed]).item(),
            "observed": F.mse_loss(prediction[observed], target[observed]).item(),
            "abs_prediction_masked": prediction[~observed].abs().mean().item(),
        }
        fresh = sample_batch(self.task, EVAL_MATRICES, 0, "authors_eval", self.step, self.device)
        self.losses["eval"] = F.mse_loss(self.model(fresh.tokens), fresh.target.flatten(1)).item()
