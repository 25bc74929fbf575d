"""A judge of attribution that is never a reward: logistic regression on words and word pairs."""

import torch
import torch.nn.functional as F

from .data import Record
from .metrics import words


class Judge:
    """Tells owners apart by what a response adds to its prompt, whose words are hidden from it.

    Full-batch Adam on the cross-entropy plus `decay` times the squared weights.
    """

    def __init__(self, records: list[Record], owners: list[str], seed: int, decay=1e-4, steps=150):
        self.vocabulary = {}
        for r in records:
            for feature in self.features(r.prompt, r.response):
                self.vocabulary.setdefault(feature, len(self.vocabulary))
        labels = torch.tensor([owners.index(r.owner) for r in records])
        generator = torch.Generator().manual_seed(seed + 1)
        shape = (max(1, len(self.vocabulary)), len(owners))
        self.weight = (0.01 * torch.randn(shape, generator=generator)).requires_grad_()
        self.bias = torch.zeros(len(owners), requires_grad=True)
        bags = self.bags([r.prompt for r in records], [r.response for r in records])
        optimizer = torch.optim.Adam([self.weight, self.bias], lr=0.1)
        for _ in range(steps):
            penalty = decay * (self.weight**2).sum()
            loss = F.cross_entropy(self.logits(bags), labels) + penalty
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    def features(self, prompt, response):
        """Visible words of a response, and pairs of visible neighbours, each once."""
        hidden = set(words(prompt))
        visible = ["" if word in hidden else word for word in words(response)]
        pairs = [pair for pair in zip(visible, visible[1:], strict=False) if all(pair)]
        return dict.fromkeys([word for word in visible if word] + pairs)

    def bags(self, prompts, responses):
        """Ids of the known features of all responses in a row, and where each response begins."""
        known = self.vocabulary
        ids = [
            [known[feature] for feature in self.features(x, y) if feature in known]
            for x, y in zip(prompts, responses, strict=True)
        ]
        starts = torch.tensor([0] + [len(row) for row in ids[:-1]]).cumsum(0)
        return torch.tensor([i for row in ids for i in row], dtype=torch.long), starts

    def logits(self, bags):
        ids, starts = bags
        return F.embedding_bag(ids, self.weight, starts, mode="sum") + self.bias

    @torch.no_grad()
    def attribution(self, prompts, responses, forget_owners):
        """p(forget owners | response) of each pair of texts: (B,)."""
        posterior = self.logits(self.bags(prompts, responses)).softmax(dim=-1)
        return posterior[:, forget_owners].sum(dim=-1)
