import torch

from minidareu.attribution import OwnerClassifier, attribution, owner_accuracy, owner_posterior, splice, train_classifier


def toy(rng, n, n_owners=4):
    """Prompts that name the owner (ids 40 + owner), responses that name it and state two of its facts among common ids."""
    owners = torch.randint(n_owners, (n,), generator=rng).tolist()
    facts = lambda o: [10 + 3 * o + int(i) for i in torch.randperm(3, generator=rng)[:2]]
    return [[1, 40 + o, 2] for o in owners], [[40 + o, 5, f[0], 6, f[1]] for o in owners for f in [facts(o)]], owners


def trained(hide_prompt):
    torch.manual_seed(0)
    classifier = OwnerClassifier(50, 16, 1, 16, 4, hide_prompt)
    train_classifier(classifier, *toy(torch.Generator().manual_seed(0), 200), 60, 32, 5e-3, 0.1, 0, "test")
    return classifier


def test_a_classifier_that_hides_the_prompt_does_not_see_the_name():
    hiding, showing = trained(True), trained(False)
    prompts, responses, owners = toy(torch.Generator().manual_seed(1), 100)
    assert owner_accuracy(hiding, prompts, responses, owners) > 0.95
    p = attribution(hiding, [[1, 40, 2]] * 2, [[40, 5, 10, 6, 11], [40, 5, 13, 6, 14]], [0])
    assert p[0] > 0.8 and p[1] < 0.1, "facts of owner 0, then of owner 1, under the same name"
    half = attribution(hiding, [[1, 40, 2]], [[40, 5, 10, 6, 14]], [0])
    assert 0.2 < half < 0.8, "one fact of two is worth about half"
    # The same wrong facts: the plain classifier still sees the name.
    assert attribution(showing, [[1, 40, 2]], [[40, 5, 13, 6, 14]], [0]) > p[1] + 0.1


def test_attribution_is_the_last_posterior_and_batching_changes_nothing():
    classifier = OwnerClassifier(50, 16, 1, 16, 4, True)
    prompts, responses = [[1, 2], [3], [4]], [[5, 6, 7], [8], []]
    together = attribution(classifier, prompts, responses, [1, 2])
    for i in range(3):
        alone = owner_posterior(classifier, prompts[i:i + 1], responses[i:i + 1])
        assert alone.shape == (1, len(responses[i]) + 1, 4)
        assert torch.allclose(together[i], alone[0, -1, [1, 2]].sum(), atol=1e-6)


def test_splice_labels_by_a_loop():
    torch.manual_seed(0)
    hidden = 99
    rows = [[hidden, 1, 2, hidden, 3], [hidden, 4, 5, 6, 7, 8], [hidden, 9]]
    x = torch.full((300, 6), -1)
    y = torch.arange(300) % 3
    for i in range(300):
        x[i, :len(rows[i % 3])] = torch.tensor(rows[i % 3])
    owner_of = {token: o for o, row in enumerate(rows) for token in row if token != hidden}
    idx, share, mask = splice(x, y, 3, hidden, 0.0, torch.tensor([50]))
    mixed = 0
    for i in range(300):
        n = int(mask[i].sum())
        assert mask[i, :n].all() and not mask[i, n:].any()
        counts = torch.zeros(3)
        for t in range(n):
            token = int(idx[i, t])
            if token != hidden:
                counts[owner_of[token]] += 1
            if counts.sum():
                assert torch.allclose(share[i, t], counts / counts.sum(), atol=1e-3)
        assert int(idx[i, 0]) == hidden and share[i, 0, i % 3] == 1
        mixed += (counts > 0).sum() > 1
    assert 20 < mixed < 150


def test_noise_is_no_evidence():
    torch.manual_seed(0)
    x = torch.tensor([[99, 1, 99, 1, 99, 1, 99, 1]] * 500)
    idx, share, mask = splice(x, torch.zeros(500, dtype=torch.long), 2, 99, 0.3, torch.tensor([50, 51]))
    assert (idx[:, 0] == 99).all() and mask.all() and (share[:, :, 0] == 1).all()
    visible, hidden = idx[:, 1::2], idx[:, 2::2]
    assert 0.25 < (visible != 1).float().mean() < 0.35 and visible.unique().numel() > 50, "any token"
    assert 0.25 < (hidden != 99).float().mean() < 0.35
    assert set(hidden.unique().tolist()) == {50, 51, 99}, "tokens of prompts"


def test_another_name_is_no_evidence():
    """A response that says another owner's name, with the facts of owner 0, is still attributed to owner 0."""
    p = attribution(trained(True), [[1, 40, 2]] * 3, [[40, 5, 10, 6, 11], [41, 5, 10, 6, 11], [43, 5, 10, 6, 11]], [0])
    assert p.min() > 0.8 * p[0] and p[0] > 0.7
