"""DA_c, the attribution classifier: to which owner is a response attributed? (Sec. 4.1)

DA(i, y) = p(i | y), the posterior of owner i given a response y alone, by a small transformer that
is trained on owner labels. Being causal, it gives DA(i, y[:t]) for every t in one pass.
"""

import math
import random
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from .data import Ids, Labelled, batches
from .files import InputError
from .model import GPT, GPTConfig, Training, descend, pad


class OwnerClassifier(nn.Module):
    """A causal transformer with a head over owners at every token."""

    def __init__(self, vocab_size: int, block_size: int, n_layer: int, n_embd: int, n_owners: int):
        super().__init__()
        self.start_id = vocab_size  # read before the first token
        self.n_owners = n_owners
        config = GPTConfig(
            vocab_size=vocab_size + 1,
            block_size=block_size + 1,
            n_layer=n_layer,
            n_head=4,
            n_embd=n_embd,
        )
        self.trunk = GPT(config)
        self.head = nn.Linear(n_embd, n_owners)

    def forward(self, idx: Tensor) -> Tensor:
        """Ids as `visible` gives them (B, L) -> logits over owners after each (B, L, owners)."""
        return self.head(self.trunk.hidden(idx))

    def visible(self, prompt: Ids, response: Ids) -> Ids:
        """What the classifier reads of a prompt and its response: a start token, the response."""
        return [self.start_id, *response]


def whole_response_loss(classifier: OwnerClassifier, idx: Tensor, owner: Tensor) -> Tensor:
    """L_class: the mean of -log DA_c(i, y*_d). idx (B, L) padded by -1, owner (B,) -> scalar."""
    last = (idx >= 0).sum(dim=1) - 1
    logits = classifier(idx.clamp(min=0))[torch.arange(len(idx), device=idx.device), last]
    return F.cross_entropy(logits, owner)


def classifier_batches(
    owners: list[int], batch_size: int, order: str, lengths: list[int], rng: random.Random
) -> list[list[int]]:
    """Lists of row indices for one pass over the data.

    order "mixed": rows of all owners, of similar length. "owner": a batch is of one owner, and the
    owners take turns (Algorithm 1, lines 3 and 4).
    """
    if order == "mixed":
        return batches(lengths, batch_size, rng)
    rows_of: dict[int, list[int]] = {owner: [] for owner in sorted(set(owners))}
    for i in rng.sample(range(len(owners)), len(owners)):
        rows_of[owners[i]].append(i)
    rounds = math.ceil(max(map(len, rows_of.values())) / batch_size)
    turns = []
    for s in range(rounds):
        for rows in rows_of.values():
            batch = rows[s * batch_size : (s + 1) * batch_size]
            if batch:
                turns.append(batch)
    return turns


def train_classifier(
    classifier: OwnerClassifier,
    rows: Labelled,
    training: Training,
    order: str = "mixed",
    batch_loss: Callable = whole_response_loss,
    **bar: object,
) -> None:
    """Phase 1 of Algorithm 1: fit `classifier` in place to the owners of responses.

    order: as in `classifier_batches`. batch_loss(classifier, idx, owner): idx (B, L) padded by -1,
    owner (B,). bar: keywords of tqdm. Raises InputError where the last loss is no number.
    """
    device = classifier.head.weight.device
    torch.manual_seed(training.seed)
    rng = random.Random(training.seed)
    pairs = zip(rows.prompts, rows.responses, strict=True)
    texts = [classifier.visible(x, y) for x, y in pairs]
    lengths = [len(text) for text in texts]
    owner = torch.tensor(rows.owners, device=device)
    passes = [
        classifier_batches(rows.owners, training.batch_size, order, lengths, rng=rng)
        for _ in range(training.epochs or 1)
    ]
    steps = sum(map(len, passes))
    optimizer = torch.optim.AdamW(
        classifier.parameters(), lr=training.lr, betas=(0.9, 0.99), weight_decay=0.01, fused=True
    )
    warm_up = 0.05 if steps != 20 else 0.06  # of one step OneCycleLR can't be: it divides by zero
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=training.lr, total_steps=steps, pct_start=warm_up
    )
    progress = tqdm(total=steps, **{"desc": "classifier", "disable": None, **bar})
    for batch in (batch for one_pass in passes for batch in one_pass):
        idx = pad([texts[i] for i in batch], value=-1, device=device)
        loss = batch_loss(classifier, idx, owner[batch])
        descend(optimizer, loss)
        schedule.step()
        progress.update()
        progress.set_postfix(loss=f"{loss.item():.3f}", refresh=False)
    progress.close()
    if not loss.isfinite():
        flags = "--classifier-lr or --plus-classifier-lr"
        raise InputError(f"a classifier: its training diverged; give a smaller {flags}")


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
    return constant_after_end(posterior, responses)


def constant_after_end(posterior: Tensor, responses: list[Ids]) -> Tensor:
    """A posterior after t = 0, 1, ... tokens, (B, longest + 1, owners), that stays as it is at the
    end of each response."""
    t = torch.arange(posterior.size(1), device=posterior.device)
    length = torch.tensor([len(y) for y in responses], device=posterior.device)
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
