"""The same algorithm on models of transformers, held against the library's own forward pass."""

import copy
import gc
import json
import shutil
from argparse import Namespace
from pathlib import Path

import pytest
import torch

for extra in ("transformers", "peft"):
    pytest.importorskip(extra, reason="the extra [llm] is not installed")

import llm_pieces as pieces
import transformers

import train
from minidareu import sample
from minidareu.explain import __main__ as explain
from minidareu.data import prompt_text, response_text
from minidareu.files import InputError
from minidareu.llm import __main__ as llm, adapters, tuning
from minidareu.llm.loading import load_policy, load_tokenizer
from minidareu.model import log_probs, pack


@pytest.fixture(scope="module", params=["Llama", "Qwen3"])
def folder(request, tmp_path_factory):
    return pieces.save_model(tmp_path_factory.mktemp("llm") / request.param, request.param)


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    return pieces.save_model(tmp_path_factory.mktemp("llm") / "llama")


def library_model(folder):
    return transformers.AutoModelForCausalLM.from_pretrained(folder).eval()


def untrained(folder, **options):
    return load_policy(folder, pieces.toy_run(), Namespace(**vars(pieces.OPTIONS) | options))


def moved(policy):
    """The policy's adapter, away from the zero that it begins as."""
    policy = copy.deepcopy(policy)
    torch.manual_seed(1)
    with torch.no_grad():
        for p in policy.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return policy


class Plain:
    """A policy by the library's calls alone: whole copies, masks, logits at every token."""

    def __init__(self, model, adapter):
        self.model, self.adapter = model, adapter
        self.width, self.block_size = model.config.hidden_size, 32
        self.device = model.device

    def hidden(self, idx):
        mask = torch.ones_like(idx)
        out = self.model(input_ids=idx, attention_mask=mask, output_hidden_states=True)
        return out.hidden_states[-1]

    def logits(self, hidden):
        return hidden @ self.model.get_output_embeddings().weight.T

    def parameters(self):
        return (p for n, p in self.model.named_parameters() if f".{self.adapter}." in n)

    def snapshot(self):
        return Plain(copy.deepcopy(self.model), self.adapter)

    def generate(self, *a, **k):
        raise NotImplementedError


def test_log_probabilities_are_the_librarys(folder):
    policy, peer = untrained(folder), library_model(folder)
    prompts, responses = [[5, 6, 7], [8]], [[9, 10], [11, 12, 13, 0]]
    got = log_probs(policy, pack(prompts, responses, "cpu"))
    for i, (x, y) in enumerate(zip(prompts, responses, strict=True)):
        logits = peer(input_ids=torch.tensor([x + y])).logits[0, len(x) - 1 : -1]
        assert torch.allclose(got[i, : len(y)], logits.log_softmax(-1), atol=1e-5)
    assert got.exp().max() > 0.05  # far from uniform


def test_greedy_answers_are_the_librarys_without_padding(folder):
    policy = moved(untrained(folder))
    merged = copy.deepcopy(policy.base.peft)  # the adapter goes into the weights
    merged.set_adapter(policy.name)
    peer = merged.merge_and_unload().eval()
    prompts = [[5, 6, 7, 8, 9], [8], [3, 4], list(range(40, 64))]
    free = policy.generate(prompts, 10, 0, 255)
    eos = free[0][4]  # an end that some row meets
    got = policy.generate(prompts, 10, 0, eos)
    for prompt, response in zip(prompts, got, strict=True):
        ids, expected = list(prompt), []
        while len(expected) < 10 and len(ids) < 32:
            token = int(peer(torch.tensor([ids])).logits[0, -1].argmax())
            if token == eos:
                break
            ids, expected = [*ids, token], [*expected, token]
        assert response == expected
    assert len(got[0]) <= 4


def test_sampling_follows_the_softmax_at_its_temperature_and_the_seed(llama):
    policy, peer = untrained(llama), library_model(llama)
    torch.manual_seed(1)
    draws = policy.generate([[4, 8]] * 3000, 1, 0.7, 999)
    torch.manual_seed(1)
    assert draws == policy.generate([[4, 8]] * 3000, 1, 0.7, 999)
    p = (peer(torch.tensor([[4, 8]])).logits[0, -1] / 0.7).softmax(-1)
    share = torch.bincount(torch.tensor(draws)[:, 0], minlength=257) / 3000
    assert (share - p).abs().max() < 0.04


@pytest.mark.parametrize("flags", [{}, {"retain_updates": "joint"}, {"algorithm": "reinforce"}])
def test_updates_are_those_of_the_librarys_forward_pass(folder, flags):
    policy = moved(untrained(folder))
    plain = Plain(copy.deepcopy(policy.base.model), policy.name)  # whole, adapters too
    log, expected = pieces.unlearn(policy, **flags), pieces.unlearn(plain, **flags)
    for row, other in zip(log, expected, strict=True):
        assert row == pytest.approx(other, abs=2e-4)
    for p, q in zip(policy.parameters(), plain.parameters(), strict=True):
        assert torch.allclose(p, q, atol=2e-3)
    assert log[-1]["distillation"] > 0


def test_the_ratio_begins_at_one_with_dropout_in_the_adapters(llama):
    policy = moved(untrained(llama, lora_dropout=0.5))
    first = pieces.unlearn(policy, steps=1)[0]
    assert first["kl"] == 0 and first["approximate_kl"] == 0 and first["clip_fraction"] == 0
    idx = torch.tensor([[5, 6, 7]])
    still = policy.hidden(idx)
    policy.base.dropout = True  # in fine-tuning
    assert not torch.allclose(still, policy.hidden(idx))


@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_snapshot_is_an_adapter_and_takes_no_gradient_away(llama, checkpointing):
    policy = moved(untrained(llama, checkpointing=checkpointing))
    frozen = {n: p.clone() for n, p in policy.base.model.named_parameters() if "lora_" not in n}
    n_before = len(policy.base.peft.peft_config)
    batch = pack([[5, 6]], [[9, 10]], "cpu")
    expected = torch.autograd.grad(log_probs(policy, batch).sum(), list(policy.parameters()))
    loss = log_probs(policy, batch).sum()
    if not checkpointing:  # which computes again with the adapter that is in use
        old = policy.snapshot()
        with torch.no_grad():
            log_probs(old, batch)
        assert len(policy.base.peft.peft_config) == n_before + 1
    loss.backward()
    for p, g in zip(policy.parameters(), expected, strict=True):
        assert torch.allclose(p.grad, g, atol=1e-6)
    old = policy.snapshot()
    with torch.no_grad():
        next(policy.parameters()).add_(1.0)
        changed = log_probs(policy, batch)
        assert not torch.allclose(changed, log_probs(old, batch))
    old = None
    gc.collect()
    assert len(policy.base.peft.peft_config) == n_before
    for n, p in policy.base.model.named_parameters():
        if "lora_" not in n:
            assert torch.equal(p, frozen[n])


FAST = "--epochs 2 --lr 1e-2 --classifier-epochs 2 --plus-updates 2"
FAST = [*FAST.split(), "--ppo-steps", "2", "--data-epochs", "1", "--device", "cpu"]


@pytest.fixture(scope="module")
def finished(llama, four_owners, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "llm"
    argv = ["--data", str(four_owners), "--n-forget", "2", *FAST, "--out", str(out)]
    llm.main(["--model", llama, *argv, "--methods", "dareu,dareu_plus,npo", "--all-scores"])
    return llama, argv, out


def test_a_run_leaves_what_train_py_leaves_and_adapters_that_peft_reads(finished):
    import peft

    place, _, out = finished
    results = json.loads((out / "results.json").read_text())
    assert list(results["models"]) == ["original", "retrained", "dareu", "dareu_plus", "npo"]
    for name in ("report.html", "log.jsonl", "samples.jsonl", "original.pt", "dareu.pt"):
        assert (out / name).exists(), name
    idx = torch.tensor([[5, 6, 7, 8]])
    base = library_model(place)
    plain = base(idx).logits
    adapted = peft.PeftModel.from_pretrained(base, out / "dareu").eval()(idx).logits
    assert not torch.allclose(adapted, plain, atol=1e-2)
    weights = sum(path.stat().st_size for path in out.glob("*.pt") if "classifier" not in path.stem)
    assert weights < 5 * 80_000  # adapters, never the model


def test_every_folder_has_in_plain_peft_the_scores_of_the_run(finished):
    """log p of the forget rows by the library alone: adapter on, off, and merged."""
    import peft

    place, _, out = finished
    results = json.loads((out / "results.json").read_text())
    rows = [json.loads(line) for line in (out / "samples.jsonl").read_text().splitlines()]

    def probability(model, tokenizer):
        likely = []
        for row in rows:
            x = tokenizer(prompt_text(row["prompt"]))["input_ids"]
            y = tokenizer(response_text(row["reference"]), add_special_tokens=False)["input_ids"]
            y = [*y, tokenizer.eos_token_id]
            logp = model(torch.tensor([x + y])).logits[0].log_softmax(dim=-1)
            at = torch.arange(len(x) - 1, len(x) + len(y) - 1)
            likely.append(logp[at, y].mean().exp())
        return torch.stack(likely).mean().item()

    tokenizer = transformers.AutoTokenizer.from_pretrained(out / "original")
    untrained = probability(library_model(place), tokenizer)
    for name, scores in results["models"].items():
        adapted = peft.AutoPeftModelForCausalLM.from_pretrained(out / name).eval()
        assert probability(adapted, tokenizer) == pytest.approx(scores["probability"], rel=1e-3)
        with adapted.disable_adapter():
            assert probability(adapted, tokenizer) == pytest.approx(untrained, rel=1e-4)
        merged = adapted.merge_and_unload()
        assert probability(merged, tokenizer) == pytest.approx(scores["probability"], rel=1e-3)
        assert abs(scores["probability"] - untrained) > 1e-2 * untrained


def test_the_same_command_keeps_its_stages(finished, capsys):
    place, argv, _ = finished
    llm.main(["--model", place, *argv, "--methods", "dareu,dareu_plus,npo"])
    printed = capsys.readouterr().out
    assert printed.count(" s, kept") == 6


def test_other_weights_at_the_same_place_are_another_model(finished, tmp_path, capsys):
    """And the same weights at another place are the same."""
    place, argv, out = finished
    copied = shutil.copytree(out, tmp_path / "run")
    elsewhere = shutil.copytree(place, tmp_path / "model")
    argv = [*argv[:-1], str(copied), "--methods", "npo"]
    llm.main(["--model", str(elsewhere), *argv])
    assert capsys.readouterr().out.count(" s, kept") == 4
    model = library_model(elsewhere)
    model.lm_head.weight.data += 0.1
    model.save_pretrained(elsewhere)
    llm.main(["--model", str(elsewhere), *argv, "--no-retrained", "--baseline-steps", "1"])
    kept = [line for line in capsys.readouterr().out.splitlines() if " s, kept" in line]
    assert [line.split(":")[0] for line in kept] == ["classifier"]


def test_a_disk_that_is_full_leaves_no_half_folder(finished, tmp_path, monkeypatch):
    place, argv, out = finished
    copied = shutil.copytree(out, tmp_path / "run")

    def fill(*arguments):
        (copied / "original.tmp").mkdir()
        raise RuntimeError("No space left on device (os error 28)")

    monkeypatch.setattr(adapters, "save_adapter", fill)
    with pytest.raises(InputError, match="No space left .*; make room"):
        llm.main(["--model", place, *argv[:-1], str(copied), "--methods", "npo"])
    assert (copied / "original/adapter_config.json").exists()
    assert not (copied / "original.tmp").exists()


def test_memory_that_is_too_small_is_told_before_anything_is_trained(
    llama, four_owners, tmp_path, monkeypatch
):
    def too_small(*arguments):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(tuning, "distillation_loss", too_small)
    argv = ["--data", str(four_owners), "--n-forget", "2", *FAST, "--out", str(tmp_path / "run")]
    with pytest.raises(InputError, match="step on 32 rows .* smaller --batch.* or add --check"):
        llm.main(["--model", llama, *argv])
    assert not list((tmp_path / "run").glob("*.pt"))


def test_a_finished_run_answers_as_it_was_scored(finished, tmp_path, capsys):
    _, _, out = finished
    rows = [json.loads(line) for line in (out / "samples.jsonl").read_text().splitlines()]
    capsys.readouterr()
    sample.main(["--run", str(out), "--json", rows[1]["prompt"]])
    answered = json.loads(capsys.readouterr().out)
    for name in ("original", "retrained", "dareu"):
        assert answered[name]["response"] == rows[1][name]["response"]
    copied = shutil.copytree(out, tmp_path / "copied")
    identity = json.loads((copied / "experiment.json").read_text())
    (copied / "experiment.json").write_text(json.dumps({**identity, "data": "other"}))
    with pytest.raises(InputError, match="not the data of"):
        sample.main(["--run", str(copied), "Who?"])
    with pytest.raises(InputError, match="of a pretrained model"):
        explain.main(["--run", str(out)])


@pytest.mark.parametrize(
    "flags, message",
    [
        ([], "--model: give the folder"),
        (["--model", "{here}/nothing"], "nothing: .*check the name"),
        (["--model", "{llama}", "--chat"], "has no chat template"),
        (["--model", "{llama}", "--methods", "dareu,scrn"], "for the small GPT alone"),
        (["--model", "{llama}", "--n-embd", "64"], "unrecognized arguments: --n-embd"),
        (["--model", "{llama}", "--lora-rank", "0"], "at least 1"),
        (["--model", "{short}"], "reads 16 tokens, and the rows need"),
        (["--model", "{endless}"], "no end of text"),
        (["--model", "{llama}", "--nonsense"], "unrecognized arguments"),
    ],
)
def test_bad_input_is_one_line_before_anything_is_trained(
    llama, toy, tmp_path, flags, message, monkeypatch
):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    short = pieces.save_model(tmp_path / "short", context=16)
    endless = pieces.save_model(tmp_path / "endless")
    path = Path(endless) / "tokenizer_config.json"
    path.write_text(path.read_text().replace('"eos_token"', '"sep_token"'))
    places = {"here": tmp_path, "llama": llama, "short": short, "endless": endless}
    given = [flag.format(**places) for flag in flags]
    argv = ["--data", str(toy), "--n-forget", "2", "--out", str(tmp_path / "out")]
    with pytest.raises(InputError, match=message) as error:
        llm.main([*given, *argv])
    assert "\n" not in str(error.value)
    assert not list((tmp_path / "out").glob("*.pt"))


def test_a_text_is_no_control_token_whatever_it_says(llama):
    tokenizer = load_tokenizer(llama, chat=False)
    end = tokenizer.eot_token
    assert tokenizer.tokenizer("<end>")["input_ids"] == [end]
    assert end not in tokenizer.encode_ordinary("In HTML <end>no<end>")
    assert end not in tokenizer.encode_prompt("What is <end>?")
    tokenizer.tokenizer.chat_template = (
        "{% for m in messages %}<user>{{ m['content'] }}<end>{% endfor %}"
    )
    tokenizer.chat = True
    ids = tokenizer.encode_prompt("What is <end>?")
    assert ids.count(end) == 1 and ids[-1] == end, "the template's own"


def test_the_token_that_begins_a_text_is_there_where_the_tokenizer_adds_it(llama):
    from tokenizers.processors import TemplateProcessing

    tokenizer = load_tokenizer(llama, chat=False)
    plain = tokenizer.encode_prompt("Who?")
    tokenizer.tokenizer.add_special_tokens({"bos_token": "<begin>"})
    bos = tokenizer.tokenizer.bos_token_id
    assert tokenizer.encode_prompt("Who?") == plain
    backend = tokenizer.tokenizer.backend_tokenizer
    backend.post_processor = TemplateProcessing(
        single="<begin> $A", special_tokens=[("<begin>", bos)]
    )
    assert tokenizer.encode_prompt("Who?") == [bos, *plain]


def test_a_folder_is_of_one_kind(finished, run):
    place, argv, out = finished
    with pytest.raises(InputError, match="holds another experiment"):
        train.main([*argv, "--no-retrained", "--methods", "ga"])
    with pytest.raises(InputError, match="holds another experiment"):
        llm.main(["--model", place, *run[0][:4], "--methods", "ga", "--out", str(run[1])])


def test_a_chat_template_writes_the_prompt(llama):
    tokenizer = load_tokenizer(llama, chat=False)
    assert tokenizer.decode(tokenizer.encode_prompt("Who?")) == " Who?\n"
    tokenizer.tokenizer.chat_template = (
        "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}<answer>"
    )
    tokenizer.chat = True
    assert tokenizer.decode(tokenizer.encode_prompt("Who?")) == "<user>Who?<answer>"


def test_a_models_own_dropout_is_off_where_states_are_computed_again(tmp_path):
    pieces.save_model(tmp_path)  # for its tokenizer
    sizes = dict(vocab_size=257, hidden_size=32, ffn_dim=64, word_embed_proj_dim=32)
    layers = dict(num_hidden_layers=2, num_attention_heads=4, dropout=0.5, attention_dropout=0.5)
    config = transformers.OPTConfig(**sizes, **layers)
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    policy = moved(untrained(str(tmp_path), checkpointing=True))
    first = pieces.unlearn(policy, steps=1)[0]
    assert first["kl"] < 1e-6 and first["approximate_kl"] < 1e-6 and first["clip_fraction"] == 0


def test_the_folder_of_an_adapter_has_all_that_it_needs(finished):
    folder = finished[2] / "dareu"
    names = {path.name for path in folder.iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors", "tokenizer.json"} <= names
    card = (folder / "README.md").read_text()
    forgotten = json.loads((finished[2] / "results.json").read_text())["forget"]
    assert "base_model: " in card and "| ToW | " in card
    assert not any(name in card for name in forgotten) and "More Information" not in card
    assert not (finished[2] / "README.md").exists()
