"""The attribution classifier: to which owner is a response attributed?

The attribution of a response y to the forget owners is the posterior p(forget owners | y) of a small transformer
trained on owner labels: the paper's affordable stand-in for exact data attribution. Two choices of ours: the
classifier is shown only what y *adds to its prompt* (`hide_prompt`), and it is causal, so that one pass gives the
posterior after every token, and with it what each single token contributed.
"""

import math
import random

import torch
import torch.nn.functional as F
from torch import nn
from tqdm import tqdm

from .data import batches
from .model import GPT, GPTConfig, pad


class OwnerClassifier(nn.Module):
    """A causal transformer with an owner head at every token.

    `hide_prompt`: response tokens that the prompt contains are hidden from it. A name is then no evidence, so that
    saying another name is no way to a lower attribution.
    """

    def __init__(self, vocab_size, block_size, n_layer, n_embd, n_owners, hide_prompt):
        super().__init__()
        # Two more entries than the language model's: the vocabulary's for a hidden token, the context's for the start.
        self.hidden_id, self.n_owners, self.hide_prompt = vocab_size, n_owners, hide_prompt
        self.trunk = GPT(GPTConfig(vocab_size + 1, block_size + 1, n_layer, 4, n_embd))
        self.head = nn.Linear(n_embd, n_owners)

    def forward(self, idx):
        """What the classifier is shown (B, T) -> logits over owners after each token (B, T, owners)."""
        return self.head(self.trunk.hidden(idx))

    def shown(self, prompt, response):
        """Ids of a prompt and a response -> what the classifier reads: a start token, then the response."""
        seen = set(prompt) if self.hide_prompt else ()
        return [self.hidden_id] + [self.hidden_id if token in seen else token for token in response]


def splice(x, y, n_owners, hidden_id, noise, prompt_tokens):
    """Responses as a policy makes them: partly wrong. Returns idx (B, T), soft owner labels (B, T, owners), mask (B, T).

    Half of the rows of x (B, T; padded with -1; owners y: (B,)) go on, from a random place, as another row does:
    CutMix (Yun et al. 2019) on text. `noise` of the visible tokens are replaced by random ones, and of the hidden ones by
    `prompt_tokens`, those of any prompts (N,): so that another owner's name is no evidence either. The label after token
    t is each owner's share of the visible tokens up to t that were not replaced.
    """
    B, T = x.shape
    device = x.device
    other = torch.randint(B, (B,), device=device)
    cut = 1 + (torch.rand(B, device=device) * (x >= 0).sum(1)).long()
    cut[torch.rand(B, device=device) < 0.5] = T
    later = torch.arange(T, device=device) >= cut[:, None]
    idx = torch.where(later, x[other], x)
    owner = torch.where(later, y[other, None], y[:, None])
    mask = (idx >= 0).long().cumprod(1)
    visible, replaced = (mask > 0) & (idx != hidden_id), torch.rand(B, T, device=device) < noise
    replaced[:, 0] = False  # the start token
    from_prompts = prompt_tokens[torch.randint(len(prompt_tokens), (B, T), device=device)]
    replacement = torch.where(visible, torch.randint(hidden_id, (B, T), device=device), from_prompts)
    idx = torch.where(replaced, replacement, idx.clamp(min=0))
    counted = (visible & ~replaced).float()
    counted[:, 0] = 1e-6  # the start token: until something is visible the label is the row's owner, on average the prior
    share = (F.one_hot(owner, n_owners) * counted[:, :, None]).cumsum(1)
    return idx, share / share.sum(-1, keepdim=True), mask.float()


def train_classifier(classifier, prompts, responses, owners, epochs, batch_size, lr, noise, seed, name):
    """Fit an OwnerClassifier: prompts and responses as lists of ids, owners as indices. Cross-entropy at every token."""
    device = classifier.head.weight.device
    torch.manual_seed(seed)
    rng = random.Random(seed)
    shown = [classifier.shown(*pair) for pair in zip(prompts, responses)]
    y, prompt_tokens = torch.tensor(owners, device=device), torch.tensor([t for x in prompts for t in x], device=device)
    optimizer = torch.optim.AdamW(classifier.parameters(), lr=lr, betas=(0.9, 0.99), weight_decay=0.01)
    steps = epochs * math.ceil(len(shown) / batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps, pct_start=0.05)
    bar = tqdm(total=steps, desc=name, disable=None)
    for _ in range(epochs):
        for batch in batches([len(ids) for ids in shown], batch_size, rng):
            x = pad([shown[i] for i in batch], -1, device)
            idx, share, mask = splice(x, y[batch], classifier.n_owners, classifier.hidden_id, noise, prompt_tokens)
            loss = (-(share * classifier(idx).log_softmax(-1)).sum(-1) * mask).sum() / mask.sum()
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(classifier.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            bar.update()
            bar.set_postfix(loss=f"{loss.item():.3f}", refresh=False)
    bar.close()


@torch.no_grad()
def owner_posterior(classifier, prompts, responses):
    """Posterior over owners after 0, 1, ... tokens of each response: (B, longest + 1, owners)."""
    device = classifier.head.weight.device
    return classifier(pad([classifier.shown(*pair) for pair in zip(prompts, responses)], 0, device)).softmax(-1)


def response_posterior(classifier, prompts, responses):
    """Posterior over owners given each whole response: (B, owners)."""
    return owner_posterior(classifier, prompts, responses)[torch.arange(len(responses)), [len(response) for response in responses]]


def forget_posterior(classifier, forget_owners, prompts, responses):
    """p(forget owners | y_1..t) after t = 0, 1, ... tokens of each response: (B, longest + 1)."""
    return owner_posterior(classifier, prompts, responses)[:, :, forget_owners].sum(-1)


def attribution(classifier, prompts, responses, forget_owners):
    """p(forget owners | response): lists of ids, and indices of the forget owners -> (B,)."""
    return response_posterior(classifier, prompts, responses)[:, forget_owners].sum(-1)


def owner_accuracy(classifier, prompts, responses, owners):
    """Share of the responses whose most likely owner is the true one (an index)."""
    best = response_posterior(classifier, prompts, responses).argmax(-1).tolist()
    return sum(map(int.__eq__, best, owners)) / len(owners)
