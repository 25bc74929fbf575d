"""A judge of attribution that is never a reward: logistic regression on words and word pairs."""

from collections import Counter

import torch
import torch.nn.functional as F

from ..data import Record
from ..metrics import words


MOST_NUMBERS = 2**21  # of a matrix of features or rows by owners: 8 MB


class Judge:
    """Tells owners apart by what a response adds to its prompt, whose words are hidden from it.

    Adam on the cross-entropy plus `decay` times the squared weights. So that memory does not grow
    with the data, it reads the features that most rows have, and at each step as many rows as fit:
    all of them where they do.
    """

    def __init__(self, records: list[Record], owners: list[str], seed: int, decay=1e-4, steps=150):
        self.most = max(1, MOST_NUMBERS // len(owners))  # features in all, rows at once
        n_rows = Counter(f for r in records for f in self.features(r.prompt, r.response))
        self.vocabulary = {
            feature: i for i, (feature, _) in enumerate(n_rows.most_common(self.most))
        }
        index = {owner: i for i, owner in enumerate(owners)}
        labels = torch.tensor([index[r.owner] for r in records])
        generator = torch.Generator().manual_seed(seed + 1)
        shape = (max(1, len(self.vocabulary)), len(owners))
        self.weight = (0.01 * torch.randn(shape, generator=generator)).requires_grad_()
        self.bias = torch.zeros(len(owners), requires_grad=True)
        ids = self.known_features([r.prompt for r in records], [r.response for r in records])
        optimizer = torch.optim.Adam([self.weight, self.bias], lr=0.1)
        for _ in range(steps):
            penalty = decay * (self.weight**2).sum()
            batch = torch.randperm(len(ids), generator=generator)[: self.most]
            bags = self.bags([ids[i] for i in batch.tolist()])
            loss = F.cross_entropy(self.logits(bags), labels[batch]) + penalty
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    def features(self, prompt, response):
        """Visible words of a response, and pairs of visible neighbours, each once."""
        hidden = set(words(prompt))
        visible = ["" if word in hidden else word for word in words(response)]
        pairs = [pair for pair in zip(visible, visible[1:], strict=False) if all(pair)]
        return dict.fromkeys([word for word in visible if word] + pairs)

    def known_features(self, prompts, responses):
        """Ids of the features of each response that the vocabulary has."""
        known = self.vocabulary
        return [
            [known[feature] for feature in self.features(x, y) if feature in known]
            for x, y in zip(prompts, responses, strict=True)
        ]

    def bags(self, ids):
        """Rows of ids, one after another, and where each row begins."""
        starts = torch.tensor([0] + [len(row) for row in ids[:-1]]).cumsum(0)
        return torch.tensor([i for row in ids for i in row], dtype=torch.long), starts

    def logits(self, bags):
        ids, starts = bags
        return F.embedding_bag(ids, self.weight, starts, mode="sum") + self.bias

    @torch.no_grad()
    def attribution(self, prompts, responses, forget_owners):
        """p(forget owners | response) of each pair of texts: (B,)."""
        ids = self.known_features(prompts, responses)
        parts = []
        for i in range(0, len(ids), self.most):
            posterior = self.logits(self.bags(ids[i : i + self.most])).softmax(dim=-1)
            parts.append(posterior[:, forget_owners].sum(dim=-1))
        return torch.cat(parts)
