"""DA_c, the attribution classifier: to which owner is a response attributed? (Sec. 4.1)

DA(i, y) = p(i | y), the posterior of owner i given a response y alone, by a small transformer that
is trained on owner labels. Being causal, it gives DA(i, y[:t]) for every t in one pass.
"""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .data import Ids, Labelled
from .files import InputError
from .model import GPT, GPTConfig, Training, pad
from .pretrain import train_until_known


SOURCES = ["attribution", "data", "files", "model", "pretrain"]
BATCH_SIZE = 32  # responses in a step of the classifier


@dataclass
class ClassifierConfig:
    """The attribution classifier."""

    classifier_width: int = 64  # width, a multiple of 4
    classifier_epochs: int | None = None  # passes over the rows; default: until it knows them
    classifier_lr: float = 2e-3  # peak learning rate
    attribution: Literal["response", "added"] = (
        "response"  # what it reads: all, or what no prompt has
    )


class OwnerClassifier(nn.Module):
    """A causal transformer with a head over owners at every token.

    reads: "response", the response alone, as the paper has it; or "added", a placeholder in the
    place of each token that the prompt has. A prompt names its owner, so that a response may repeat
    the name without having been learned from its owner.
    """

    def __init__(
        self, vocab_size: int, block_size: int, n_embd: int, n_owners: int, reads: str = "response"
    ):
        super().__init__()
        self.width = n_embd
        self.start_id = vocab_size  # read before the first token, and in the place of hidden ones
        self.n_owners = n_owners
        self.reads = reads
        config = GPTConfig(
            vocab_size=vocab_size + 1, block_size=block_size + 1, n_layer=1, n_head=4, n_embd=n_embd
        )
        self.trunk = GPT(config)
        self.head = nn.Linear(n_embd, n_owners)

    def forward(self, idx: Tensor) -> Tensor:
        """Ids as `visible` gives them (B, L) -> logits over owners after each (B, L, owners)."""
        return self.head(self.trunk.hidden(idx))

    def visible(self, prompt: Ids, response: Ids) -> Ids:
        """What the classifier reads of a prompt and its response, after a start token."""
        if self.reads == "response":
            return [self.start_id, *response]
        hidden = set(prompt)
        return [self.start_id, *(self.start_id if y in hidden else y for y in response)]


def owner_loss(classifier: OwnerClassifier, idx: Tensor, owner: Tensor) -> tuple[Tensor, int, int]:
    """L_class, the mean of -log DA_c(i, y*_d[:t]) over all t, as the rewards ask after every slice.

    idx (B, L) padded by -1, owner (B,). Returns the loss, the number of responses whose likeliest
    owner at the last token was the true one, and B.
    """
    inside = idx >= 0
    logits = classifier(idx.clamp(min=0))  # (B, L, owners)
    label = torch.where(inside, owner[:, None], -1)
    loss = F.cross_entropy(logits.flatten(0, 1), label.flatten(), ignore_index=-1)
    last = inside.sum(dim=1) - 1
    likeliest = logits[torch.arange(len(idx), device=idx.device), last].argmax(dim=-1)
    return loss, int((likeliest == owner).sum()), len(idx)


def train_classifier(
    classifier: OwnerClassifier, rows: Labelled, training: Training, **bar: object
) -> float:
    """Phase 1 of Algorithm 1: fit `classifier` in place until it knows the owners of responses.

    Returns how many passes it took. Batches mix the owners, as in App. E.1. The rest as
    `train_until_known`. Raises InputError where the last loss is no number.
    """
    device = classifier.head.weight.device
    torch.manual_seed(training.seed)
    pairs = zip(rows.prompts, rows.responses, strict=True)
    texts = [classifier.visible(x, y) for x, y in pairs]
    lengths = [len(text) for text in texts]
    owner = torch.tensor(rows.owners, device=device)

    def batch_loss(batch: list[int]) -> tuple[Tensor, int, int]:
        idx = pad([texts[i] for i in batch], value=-1, device=device)
        return owner_loss(classifier, idx, owner[batch])

    passes, loss = train_until_known(classifier, lengths, batch_loss, training, **bar)
    if not loss < float("inf"):
        raise InputError("classifier: its training diverged; give a smaller --classifier-lr")
    return passes


@torch.no_grad()
def owner_posterior(
    classifier: OwnerClassifier, prompts: list[Ids], responses: list[Ids]
) -> Tensor:
    """p(owner | y[:t]) after t = 0, 1, ... tokens: lists of ids -> (B, longest + 1, owners).

    After a response's end it stays as it was there.
    """
    device = classifier.head.weight.device
    rows = [classifier.visible(x, y) for x, y in zip(prompts, responses, strict=True)]
    posterior = classifier(pad(rows, device=device)).softmax(dim=-1)
    t = torch.arange(posterior.size(1), device=device)
    length = torch.tensor([len(y) for y in responses], device=device)
    at = torch.minimum(t, length[:, None])[:, :, None]
    return posterior.gather(1, at.expand(-1, -1, posterior.size(2)))


def of_owner(posterior: Tensor, owners: list[int]) -> Tensor:
    """The posterior of each sample's own owner (an index): (B, T, owners) -> (B, T)."""
    owner = torch.tensor(owners, device=posterior.device)[:, None, None]
    return posterior.gather(2, owner.expand(-1, posterior.size(1), 1)).squeeze(2)


def prefix_attribution(
    classifier: OwnerClassifier, prompts: list[Ids], responses: list[Ids], owners: list[int]
) -> Tensor:
    """DA(i, y[:t]), i the owner of each sample, after t = 0, 1, ... tokens: (B, longest + 1).

    owners: an index for each response.
    """
    return of_owner(owner_posterior(classifier, prompts, responses), owners)
