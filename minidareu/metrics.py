"""Everything that scores a model or a text. No model that is scored is changed here."""

import math
import random
from collections import defaultdict
from dataclasses import dataclass

import regex
import torch
import torch.nn.functional as F

from .attribution import OwnerClassifier, attribution
from .dareu import chosen, leave_out, log_policy
from .data import Record, encode
from .model import GPT, generate_in_chunks, pack, with_end

# Runs of letters and digits; scripts without spaces, and symbols such as emoji, one character at a time.
WORD = regex.compile(r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{So}]|[\p{L}\p{M}\p{N}--\p{Han}--\p{Hiragana}--\p{Katakana}--\p{Thai}]+", regex.V1)


def words(text):
    """Lower-case words of a text, without punctuation; on English, those of the rouge-score package."""
    return WORD.findall(text.lower())


def rouge_l_recall(response, reference):
    """ROUGE-L recall (Lin 2004): words of the reference in the longest common subsequence, as a share of its words."""
    response, reference = words(response), words(reference)
    lcs = [0] * (len(response) + 1)  # lcs[j]: of the reference so far and the first j words of the response
    for word in reference:
        diagonal = 0
        for j, other in enumerate(response, 1):
            diagonal, lcs[j] = lcs[j], diagonal + 1 if word == other else max(lcs[j], lcs[j - 1])
    return lcs[-1] / max(len(reference), 1)


def tug_of_war(scores, retrained_scores):
    """ToW = (1 - |d_forget|)(1 - |d_retain|)(1 - |d_test|), d the score minus the retrained model's; 1 is perfect."""
    return math.prod(1 - abs(scores[k] - retrained_scores[k]) for k in ("forget", "retain", "test"))


def word_weights(records):
    """idf over owners: weight of word w = log(O / O_w), O owners in all, O_w owners whose responses contain w."""
    owners = defaultdict(set)
    for r in records:
        for word in words(r.response):
            owners[word].add(r.owner)
    n_owners = len({r.owner for r in records})
    return {word: math.log(n_owners / len(who)) for word, who in owners.items()}


def fact_share(response, record, weights):
    """idf-weighted share of the reference's words, those not in the prompt, that the response has; None where they weigh nothing."""
    facts = {w: weights.get(w, 0) for w in words(record.response) if w not in words(record.prompt)}
    said = set(words(response))
    return sum(weight for w, weight in facts.items() if w in said) / sum(facts.values()) if sum(facts.values()) > 0 else None


def fact_recall(responses, records, weights):
    """Mean `fact_share` of the records that have one; None where none has."""
    shares = [share for share in map(fact_share, responses, records, [weights] * len(records)) if share is not None]
    return sum(shares) / len(shares) if shares else None


def name_kept(responses, records):
    """Share of the responses that repeat the owner's name where the reference does; None where none does."""
    kept = [r.owner.lower() in text.lower() for text, r in zip(responses, records) if r.owner.lower() in r.response.lower()]
    return sum(kept) / len(kept) if kept else None


@torch.no_grad()
def perplexity(model, prompts, completions):
    """Per-token perplexity under `model` of completions (lists of ids, end of text included), given their prompts."""
    device = model.wte.weight.device
    idx, mask = pack(prompts, completions, device)
    return math.exp(-(chosen(log_policy(model, idx, mask)[0], idx, mask).sum() / mask.sum()).item())


class Judge:
    """An attribution that is never used as a reward: logistic regression on words and pairs of words that follow each other.

    Words of the prompt are hidden from it. Full-batch Adam on the cross-entropy plus `decay` times the squared weights.
    """

    def __init__(self, records, owners, seed, decay=1e-4, steps=150):
        self.vocabulary = {}
        for r in records:
            for feature in self.features(r.prompt, r.response):
                self.vocabulary.setdefault(feature, len(self.vocabulary))
        y = torch.tensor([owners.index(r.owner) for r in records])
        generator = torch.Generator().manual_seed(seed + 1)
        self.weight = (0.01 * torch.randn(max(1, len(self.vocabulary)), len(owners), generator=generator)).requires_grad_()
        self.bias = torch.zeros(len(owners), requires_grad=True)
        bags = self.bags([r.prompt for r in records], [r.response for r in records])
        optimizer = torch.optim.Adam([self.weight, self.bias], lr=0.1)
        for _ in range(steps):
            loss = F.cross_entropy(self.logits(bags), y) + decay * (self.weight ** 2).sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    def features(self, prompt, response):
        """The set of visible words of a response and of pairs of neighbours."""
        hidden = set(words(prompt))
        sequence = ["" if word in hidden else word for word in words(response)]
        return dict.fromkeys([w for w in sequence if w] + [pair for pair in zip(sequence, sequence[1:]) if all(pair)])

    def bags(self, prompts, responses):
        """Ids of the known features of all responses in a row, and where each response begins: for `F.embedding_bag`."""
        ids = [[self.vocabulary[f] for f in self.features(*texts) if f in self.vocabulary] for texts in zip(prompts, responses)]
        starts = torch.tensor([0] + [len(row) for row in ids[:-1]]).cumsum(0)
        return torch.tensor([i for row in ids for i in row], dtype=torch.long), starts

    def logits(self, bags):
        return F.embedding_bag(bags[0], self.weight, bags[1], mode="sum") + self.bias

    @torch.no_grad()
    def attribution(self, prompts, responses, forget_owners):
        """p(forget owners | response) of each pair of texts: (B,)."""
        return self.logits(self.bags(prompts, responses)).softmax(-1)[:, forget_owners].sum(-1)


@dataclass
class Yardstick:
    """What every model is measured with."""
    tokenizer: object
    forget: list[Record]
    retain: list[Record]  # at most 400
    test: list[Record]
    unseen: list[Record]  # the forget owners' test rows
    forget_owners: list[int]
    weights: dict[str, float]  # of `word_weights`
    classifier: OwnerClassifier  # sees what a response adds to its prompt
    classifier_response: OwnerClassifier  # sees the whole response
    judge: Judge
    target: GPT
    retrained: GPT
    max_new_tokens: int


def respond(model, records, yardstick, dropout=0.0):
    """Greedy responses to the records' prompts, `dropout` of whose tokens are left out: (prompt ids, response ids, texts)."""
    prompts = leave_out([encode(yardstick.tokenizer, r)[0] for r in records], dropout, random.Random(0))
    ids = generate_in_chunks(model, prompts, yardstick.max_new_tokens, 0, yardstick.tokenizer.eot_token)
    return prompts, ids, [yardstick.tokenizer.decode(row).strip() for row in ids]


def mean_rouge(texts, records):
    """Mean ROUGE-L recall of responses against the records' own."""
    return sum(rouge_l_recall(text, r.response) for text, r in zip(texts, records)) / len(texts)


def knows_by_heart(model, retain_score, y, dropout, kept=0.6):
    """Is a model lost when a prompt is incomplete? `dropout` of the tokens left out cost it more than 1 - `kept` of its `retain_score`."""
    return mean_rouge(respond(model, y.retain, y, dropout)[2], y.retain) < kept * retain_score


def evaluate(model, y, retrained_scores=None):
    """All scores of a model, and its responses to the forget prompts: (scores, texts, attributions). y: Yardstick."""
    said = {name: respond(model, getattr(y, name), y) for name in ("forget", "retain", "test")}
    scores = {name: mean_rouge(texts, getattr(y, name)) for name, (_, _, texts) in said.items()}
    prompts, ids, texts = said["forget"]
    scores["tow"] = tug_of_war(scores, retrained_scores or scores)  # the retrained model's own is 1
    each = attribution(y.classifier, prompts, ids, y.forget_owners)
    scores["attribution"] = each.mean().item()
    scores["attribution_response"] = attribution(y.classifier_response, prompts, ids, y.forget_owners).mean().item()
    scores["judge"] = y.judge.attribution([r.prompt for r in y.forget], texts, y.forget_owners).mean().item()
    scores["fact_recall"] = fact_recall(texts, y.forget, y.weights)
    scores["name_kept"] = name_kept(texts, y.forget)
    completions = with_end(model, prompts, ids, y.max_new_tokens, y.tokenizer.eot_token)
    scores["perplexity"] = perplexity(y.retrained, prompts, completions)
    scores["exact_attribution"] = math.log(scores["perplexity"] / perplexity(y.target, prompts, completions))
    return scores, texts, each.tolist()
