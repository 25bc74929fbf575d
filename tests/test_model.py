import pytest
import torch

from llm_pieces import gpt2_of
from minidareu.model import GPT, GPTConfig, chosen, generate, log_probs, pack, pad, with_end
from minidareu.model import descend


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = GPT(GPTConfig(vocab_size=50, block_size=32, n_layer=2, n_head=4, n_embd=16))
    for p in model.parameters():
        torch.nn.init.normal_(
            p, std=0.3
        )  # far from uniform outputs, biases and layer norms included
    return model


def test_logits_equal_transformers(model):
    peer = gpt2_of(model).eval()
    assert len(peer.transformer.state_dict()) == len(model.state_dict())
    idx = torch.randint(50, (3, 32))
    assert torch.allclose(model(idx), peer(idx).logits, atol=1e-4)
    assert model(idx).abs().max() > 1


def test_right_padding_changes_nothing_to_its_left(model):
    idx = torch.randint(50, (2, 9))
    assert torch.allclose(model(idx)[:, :5], model(idx[:, :5]), atol=1e-5)


def greedy_without_cache(model, prompt, n, eos):
    ids = list(prompt)
    while len(ids) < min(len(prompt) + n, model.config.block_size):
        token = int(model(torch.tensor([ids]))[0, -1].argmax())
        if token == eos:
            break
        ids.append(token)
    return ids[len(prompt) :]


@pytest.mark.parametrize("eos", [3, 17, 999])
def test_cached_generation_equals_uncached(model, eos):
    prompts = [torch.randint(50, (n,)).tolist() for n in (1, 7, 3, 12, 5, 5, 28, 31, 32)]
    got = generate(model, prompts, 10, 0, eos)
    assert got == [greedy_without_cache(model, prompt, 10, eos) for prompt in prompts]
    assert any(got)


def test_generation_with_an_end_that_rows_reach_at_different_times(model):
    prompts = [torch.randint(50, (n,)).tolist() for n in (4, 9, 2, 6)]
    free = generate(model, prompts, 12, 0, 999)
    eos = free[0][3]  # row 0 meets it after three tokens or fewer
    got = generate(model, prompts, 12, 0, eos)
    assert got == [row[: row.index(eos)] if eos in row else row for row in free]
    assert len(got[0]) <= 3


def test_sampling_is_seeded_and_follows_the_softmax(model):
    prompt = [4, 8, 15]
    torch.manual_seed(1)
    a = generate(model, [prompt] * 4000, 1, 2.0, 999)
    torch.manual_seed(1)
    assert a == generate(model, [prompt] * 4000, 1, 2.0, 999)
    p = (model(torch.tensor([prompt]))[0, -1] / 2.0).softmax(-1)
    share = torch.bincount(torch.tensor(a)[:, 0], minlength=50) / 4000
    assert (share - p).abs().max() < 0.03


def test_pack():
    batch = pack([[1, 2], [3]], [[4, 5], [6]], "cpu")
    assert batch.idx.tolist() == [[1, 2, 4, 5], [3, 6, 0, 0]]
    assert batch.response.tolist() == [[4, 5], [6, 0]]
    assert batch.mask.tolist() == [[1, 1], [1, 0]]
    assert batch.before[0].tolist() == [1, 2] and batch.before[1, 0] == 0
    assert pad([[1], [2, 3]], -1).tolist() == [[1, -1], [2, 3]]


def test_log_probs_equal_one_response_at_a_time(model):
    prompts, responses = [[1, 2, 3], [4], [5, 6]], [[7, 8], [9, 10, 11], []]
    batch = pack(prompts, responses, "cpu")
    logp = log_probs(model, batch, 0.7)
    for b, (x, y) in enumerate(zip(prompts, responses, strict=True)):
        alone = (model(torch.tensor([x + y])) / 0.7).log_softmax(-1)[0]
        for t, token in enumerate(y):
            assert torch.allclose(logp[b, t], alone[len(x) - 1 + t], atol=1e-4)
            assert torch.allclose(
                chosen(logp, batch)[b, t], alone[len(x) - 1 + t, token], atol=1e-4
            )
        assert (chosen(logp, batch)[b, len(y) :] == 0).all()


def test_the_end_of_text_is_added_where_the_model_ended(model):
    prompts, responses = [[1, 2], [3], [4] * 30], [[5], [6, 7, 8], [9, 9]]
    assert with_end(model, prompts, responses, 3, 49) == [[5, 49], [6, 7, 8], [9, 9]]


def test_descend_gives_the_norm_before_it_is_clipped():
    p = torch.nn.Parameter(torch.tensor([3.0, 4.0]))
    optimizer = torch.optim.SGD([p], lr=1.0)
    assert descend(optimizer, (p * torch.tensor([6.0, 8.0])).sum()) == pytest.approx(10)
    assert p.tolist() == pytest.approx([3 - 0.6, 4 - 0.8]), "one step of length 1"
