"""What a model says, and what it makes of texts, for any number of rows: so many at once that
memory does not grow with them."""

import torch
from torch import Tensor

from ..attribution import OwnerClassifier, owner_posterior
from ..data import Ids, Labelled
from ..model import GPT, chosen, log_probs, pack

MOST_NUMBERS = 2**22  # in one tensor: 16 MB


def rows_at_once(numbers_a_row: int, most: int, model: GPT | None = None) -> int:
    """How many rows to compute at once: MOST_NUMBERS in all, or as many as half of the weights of a
    large model, whose rows are large too."""
    numbers = MOST_NUMBERS
    if model is not None:
        numbers = max(numbers, 6 * model.config.n_layer * model.config.n_embd**2)
    return min(most, max(1, numbers // numbers_a_row))


def generate_in_chunks(
    model: GPT,
    prompts: list[Ids],
    max_new_tokens: int,
    temperature: float,
    eos_id: int,
    chunk: int = 256,
) -> list[Ids]:
    """`generate` for any number of prompts, `chunk` at a time or fewer."""
    c = model.config
    longest = min(max(map(len, prompts), default=0) + max_new_tokens, c.block_size)
    cache, attention = 2 * c.n_layer * longest * c.n_embd, c.n_head * longest**2
    chunk = rows_at_once(max(cache, attention), most=chunk, model=model)
    responses = []
    for i in range(0, len(prompts), chunk):
        part = prompts[i : i + chunk]
        responses += model.generate(part, max_new_tokens, temperature, eos_id)
    return responses


@torch.no_grad()
def response_log_probs(
    model: GPT, prompts: list[Ids], responses: list[Ids], chunk: int = 64
) -> list[torch.Tensor]:
    """log p of each token of each response (lists of ids) after its prompt: a (T,) each."""
    longest = max(map(len, responses), default=1)
    chunk = rows_at_once(max(1, longest) * model.config.vocab_size, most=chunk, model=model)
    # One place for all: small results kept between large tensors would hold their memory.
    logp = torch.zeros(len(prompts), longest, device=model.device)
    for i in range(0, len(prompts), chunk):
        part = slice(i, i + chunk)
        batch = pack(prompts[part], responses[part], model.device)
        logp[part, : batch.mask.size(1)] = chosen(log_probs(model, batch), batch)
    return [row[: len(y)] for row, y in zip(logp, responses, strict=True)]


def response_posterior(
    classifier: OwnerClassifier, prompts: list[Ids], responses: list[Ids], chunk: int = 256
) -> Tensor:
    """p(owner | y) of whole responses, `chunk` at a time or fewer: (B, owners)."""
    longest = 1 + max(map(len, responses), default=0)
    chunk = rows_at_once(longest * classifier.n_owners, most=chunk)
    parts = []
    for i in range(0, len(responses), chunk):
        part = slice(i, i + chunk)
        posterior = owner_posterior(classifier, prompts[part], responses[part])
        parts.append(posterior[:, -1].clone())  # a view would keep all of it
    return torch.cat(parts)


def owner_accuracy(classifier: OwnerClassifier, rows: Labelled) -> float:
    """Share of the responses whose most likely owner is the true one."""
    n_true = 0
    for i in range(0, len(rows.owners), 1024):
        part = slice(i, i + 1024)
        posterior = response_posterior(classifier, rows.prompts[part], rows.responses[part])
        n_true += int((posterior.argmax(dim=-1).cpu() == torch.tensor(rows.owners[part])).sum())
    return n_true / len(rows.owners)
