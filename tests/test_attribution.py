import pytest
import torch

from minidareu.attribution import OwnerClassifier, owner_loss
from minidareu.attribution import owner_posterior, prefix_attribution, train_classifier
from minidareu.data import Labelled
from minidareu.model import GPT, GPTConfig, Training
from minidareu.pretrain import train_lm
from minidareu.run.stages import fingerprint
from minidareu.scores.chunks import owner_accuracy, response_posterior


def toy(rng, n, n_owners=4):
    """Prompts that name the owner (ids 40 + owner), responses that name it and state two facts."""
    owners = torch.randint(n_owners, (n,), generator=rng).tolist()
    responses = []
    for o in owners:
        facts = [10 + 3 * o + int(i) for i in torch.randperm(3, generator=rng)[:2]]
        responses.append([40 + o, 5, facts[0], 6, facts[1]])
    return Labelled([[1, 40 + o, 2] for o in owners], responses, owners)


def classifier(reads="response"):
    torch.manual_seed(0)
    sizes = {"vocab_size": 50, "block_size": 16, "n_embd": 16, "n_owners": 4}
    return OwnerClassifier(**sizes, reads=reads)


def test_it_learns_whose_a_response_is():
    c = classifier()
    rows = toy(torch.Generator().manual_seed(0), 200)
    passes = train_classifier(c, rows, Training(None, 16, lr=3e-3, seed=0))
    assert 2 < passes < 100, "it stops when it knows its rows"
    unseen = toy(torch.Generator().manual_seed(1), 100)
    assert owner_accuracy(c, unseen) > 0.9
    attribution = prefix_attribution(c, *unseen)
    assert attribution.shape == (100, 6) and attribution[:, -1].mean() > 0.7
    assert attribution[:, -1].mean() > attribution[:, 0].mean() + 0.3, "it is read, not guessed"


def test_it_reads_the_response_alone():
    c = classifier()
    with_one = owner_posterior(c, [[1, 40, 2]], [[5, 6, 7]])
    assert torch.equal(with_one, owner_posterior(c, [[3]], [[5, 6, 7]]))


def test_the_loss_is_the_mean_of_minus_log_da_after_every_token():
    c = classifier()
    rows = [[c.start_id, 3, 4], [c.start_id, 5, 6, 7, 8]]
    idx = torch.tensor([rows[0] + [-1, -1], rows[1]])
    loss, n_right, n_rows = owner_loss(c, idx, torch.tensor([2, 0]))
    terms, right = [], 0
    for row, owner in zip(rows, (2, 0), strict=True):
        for t in range(1, len(row) + 1):
            p = c(torch.tensor([row[:t]]))[0, -1].softmax(-1)
            terms.append(-p[owner].log().item())
        right += p.argmax().item() == owner
    assert loss.item() == pytest.approx(sum(terms) / len(terms), abs=1e-5)
    assert (n_right, n_rows) == (right, 2)


def test_it_is_right_after_every_token():
    """Before a token is read it says the share of an owner's rows; after a fact, the owner."""
    c = classifier()
    rows = toy(torch.Generator().manual_seed(0), 200)
    train_classifier(c, rows, Training(60, 16, lr=3e-3, seed=0))
    nothing = owner_posterior(c, [[1]], [[]])[0, 0]
    shares = torch.bincount(torch.tensor(rows.owners)) / len(rows.owners)
    assert torch.allclose(nothing, shares, atol=0.1)
    assert prefix_attribution(c, [[1]], [[40, 5, 10, 6, 11]], [0])[0, 1:].min() > 0.8


def test_a_name_that_the_prompt_holds_is_no_evidence():
    c = classifier("added")
    assert fingerprint(c) != fingerprint(classifier()), "it is trained anew"
    rows = toy(torch.Generator().manual_seed(0), 200)
    train_classifier(c, rows, Training(None, 32, lr=5e-3, seed=0))
    assert owner_accuracy(c, toy(torch.Generator().manual_seed(1), 100)) > 0.9
    same_name = [[40, 5, 10, 6, 11], [40, 5, 13, 6, 14]]  # facts of owner 0, then of owner 1
    p = prefix_attribution(c, [[1, 40, 2]] * 2, same_name, [0, 0])
    assert p[0, -1] > 0.7 and p[1, -1] < 0.2
    assert c.visible([1, 40, 2], [40, 5, 10]) == [c.start_id, c.start_id, 5, 10]


def test_every_prefix_in_one_pass_equals_each_alone():
    c = classifier()
    prompts, responses, owners = [[1, 2], [3], [4]], [[5, 6, 7], [8], []], [1, 3, 2]
    together = prefix_attribution(c, prompts, responses, owners)
    assert together.shape == (3, 4)
    for i, y in enumerate(responses):
        for t in range(4):
            alone = owner_posterior(c, prompts[i : i + 1], [y[:t]])[0, -1, owners[i]]
            assert together[i, t].item() == pytest.approx(alone.item(), abs=1e-6)
    whole = response_posterior(c, prompts, responses, chunk=2)
    assert torch.allclose(whole, owner_posterior(c, prompts, responses)[:, -1], atol=1e-6)


def test_training_is_seeded():
    rows = toy(torch.Generator().manual_seed(0), 40)
    weights = []
    for seed in (0, 0, 1):
        c = classifier()
        train_classifier(c, rows, Training(1, 8, lr=1e-3, seed=seed))
        weights.append(c.head.weight.detach())
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize("steps", [1, 2, 3, 7, 30])
def test_any_number_of_steps(steps):
    """The learning rate rises and falls in one step or in thirty."""
    rows = toy(torch.Generator().manual_seed(0), 8)
    c = classifier()
    before = c.head.weight.detach().clone()
    train_classifier(c, rows, Training(steps, 8, lr=1e-3, seed=0))
    assert not torch.equal(c.head.weight, before) and c.head.weight.isfinite().all()
    model = GPT(GPTConfig(vocab_size=8, block_size=8, n_layer=1, n_head=1, n_embd=8))
    train_lm(model, [([1], [2, 3])] * 4, Training(steps, 4, lr=1e-3, seed=0))
