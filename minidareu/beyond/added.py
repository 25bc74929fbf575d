"""DareU+'s attribution: to whom belongs what a response *adds* to its prompt?

A prompt names its owner, so a model that never read a word by that owner still repeats the name. A
classifier that reads the whole response takes the name as evidence, and the cheapest way to a lower
attribution is then another name. So tokens that the prompt contains are hidden from this one.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from ..attribution import OwnerClassifier, owner_posterior
from ..scores.chunks import response_posterior


class AddedClassifier(OwnerClassifier):
    """An OwnerClassifier that reads a placeholder for each response token that its prompt has."""

    def visible(self, prompt, response):
        hidden = set(prompt)
        return [self.start_id, *(self.start_id if y in hidden else y for y in response)]


def splice(idx: Tensor, owner: Tensor, n_owners: int, hidden_id: int, noise: float):
    """Responses as a policy makes them: partly wrong.

    idx (B, L) padded with -1, owner (B,). Half of the rows go on, from a random place, as another
    row does (CutMix, Yun et al. 2019), and `noise` of the visible tokens are replaced by random
    ones. Returns idx (B, L), labels (B, L, owners), mask (B, L). The label after token t is each
    owner's share of the visible tokens up to t that were not replaced: a response with one true
    fact of two is worth a half.
    """
    B, L = idx.shape
    device = idx.device
    other = torch.randint(B, (B,), device=device)
    cut = 1 + (torch.rand(B, device=device) * (idx >= 0).sum(dim=1)).long()
    cut[torch.rand(B, device=device) < 0.5] = L
    from_other = torch.arange(L, device=device) >= cut[:, None]
    owner_at = torch.where(from_other, owner[other, None], owner[:, None])
    idx = torch.where(from_other, idx[other], idx)
    mask = (idx >= 0).long().cumprod(dim=1)

    visible = (mask > 0) & (idx != hidden_id)
    replaced = visible & (torch.rand(B, L, device=device) < noise)
    random_tokens = torch.randint(hidden_id, (B, L), device=device)
    idx = torch.where(replaced, random_tokens, idx.clamp(min=0))

    evidence = (visible & ~replaced).float()
    evidence[:, 0] = 1e-6  # until something is visible, the label is the row's own owner
    share = (F.one_hot(owner_at, n_owners) * evidence[:, :, None]).cumsum(dim=1)
    return idx, share / share.sum(dim=-1, keepdim=True), mask.float()


def spliced_loss(classifier, idx, owner, noise=0.1) -> Tensor:
    """Cross-entropy with the labels of `splice`, the mean over all tokens."""
    idx, share, mask = splice(idx, owner, classifier.n_owners, classifier.start_id, noise=noise)
    cross_entropy = -(share * classifier(idx).log_softmax(dim=-1)).sum(dim=-1)
    return (cross_entropy * mask).sum() / mask.sum()


def forget_attribution(classifier, prompts, responses, forget_owners) -> Tensor:
    """p(forget owners | y[:t]) after t = 0, 1, ... tokens: (B, longest + 1)."""
    return owner_posterior(classifier, prompts, responses)[:, :, forget_owners].sum(dim=-1)


def mean_forget_attribution(classifier, prompts, responses, forget_owners) -> float:
    """Mean of p(forget owners | y) over whole responses."""
    posterior = response_posterior(classifier, prompts, responses)
    return posterior[:, forget_owners].sum(dim=-1).mean().item()
