"""Training, generation and updates beside transformers and TRL, on the default data."""

import random
import tempfile
from dataclasses import replace
from functools import partial
from statistics import median


from .. import dareu
from ..attribution import forget_attribution, prefix_attribution
from ..beyond import dareu_plus
from ..data import batches, shuffled_batches
from ..model import GPT, GPTConfig, Training, descend, generate
from ..pretrain import train_lm
from ..run.flags import parse
from ..run.pool import DATA
from ..run.prepare import make_task, prepare
from ..run.stages import new_classifier, new_gpt
from . import peers
from .timing import in_turn, matmul_peak, megabytes_of, ratios, seconds_of, shown

WIDTHS = [96, 128, 256]
BATCHES = [1, 16, 128, 512]
N_ROWS = 640  # of a training epoch that is timed
MEMORY = ["memory, MB", "memory, peer"]


def default_run(device):
    """What `train.py` knows of its default data before it trains."""
    return prepare(parse(["--data", str(DATA), "--device", device, "--out", "runs/bench"], ""))


def model_after_two_epochs(run):
    """A language model that knows how a response looks and where it ends."""
    model = new_gpt(run)
    train_lm(model, run.ended(run.train), replace(run.config.training, epochs=2))
    return model


def size_of(model):
    return sum(p.numel() for p in model.parameters())


def training(device, repeats):
    """An epoch of `train_lm` beside a plain loop with transformers, which pads random batches; and
    beside the same loop on our batches, of rows of similar length."""
    run = default_run(device)
    pairs = random.Random(0).sample(run.ended(run.train), N_ROWS)
    rows = [x + y for x, y in pairs]
    n_tokens, peak = sum(map(len, rows)), matmul_peak(device)
    size = run.config.batch_size
    plain = shuffled_batches(rows, size, random.Random(0))
    sorted_rows = batches([len(row) for row in rows], size, random.Random(0))
    similar = [[rows[i] for i in batch] for batch in sorted_rows]
    lines, figures = [], {}
    for width in WIDTHS:
        config = GPTConfig(run.tokenizer.n_vocab, run.config.block_size, n_layer=2, n_embd=width)
        training = Training(1, size, lr=1e-3, seed=0)
        model = GPT(config).to(device)
        ours = partial(train_lm, model, pairs, training)
        peer = peers.gpt2_of(model)
        theirs = partial(peers.train_epoch, peer, plain, 1e-3)
        own, loop = in_turn(ours, theirs, repeats)
        own_again, alike = in_turn(ours, partial(peers.train_epoch, peer, similar, 1e-3), repeats)
        speed, beside, equal = n_tokens / median(own), ratios(own, loop), ratios(own_again, alike)
        share = 6 * size_of(model) * speed / peak
        memory = [megabytes_of(ours), megabytes_of(theirs)]
        cells = [f"{speed:,.0f}", f"{share:.2f}", shown(beside), shown(equal)]
        lines.append([str(width), *cells, *memory])
        figures[width] = {"tokens/s": speed, "share": share, "loop": beside, "same batches": equal}
        figures[width]["memory, MB"] = memory
    head = ["width", "tokens/s", "of the peak", "over a plain loop", "over it on our batches"]
    head += MEMORY
    return head, lines, figures


def generation(device, repeats):
    """`generate` beside transformers' with its cache: the same model, after two epochs, so that
    responses end where it has learned to end them; prompts of mixed lengths; seconds a token."""
    run = default_run(device)
    model = model_after_two_epochs(run)
    peer, eos_id = peers.gpt2_of(model).eval(), run.limits["eos_id"]
    limit = run.limits["max_new_tokens"]
    lines, figures = [], {}
    for size in BATCHES:
        chosen = random.Random(size).sample(run.train, size)
        prompts = [run.pairs[r][0] for r in chosen]
        tokens = {"own": 0, "peer": 0}

        def ours(prompts=prompts, tokens=tokens):
            new = generate(model, prompts, limit, temperature=1.0, eos_id=eos_id)
            tokens["own"] = sum(min(len(y) + 1, limit) for y in new)

        def theirs(prompts=prompts, tokens=tokens):
            tokens["peer"] = peers.sample(peer, prompts, limit, temperature=1.0, eos_id=eos_id)

        own, other = [], []
        ours(), theirs()
        for _ in range(repeats if size > 16 else 3 * repeats):
            own.append(seconds_of(ours) / tokens["own"])
            other.append(seconds_of(theirs) / tokens["peer"])
        beside = ratios(own, other)
        memory = [megabytes_of(ours), megabytes_of(theirs)]
        lines.append([str(size), f"{1 / median(own):,.0f}", shown(beside), *memory])
        figures[size] = {"tokens/s": 1 / median(own), "transformers": beside, "memory, MB": memory}
    return ["batch", "tokens/s", "over transformers", *MEMORY], lines, figures


def update(device, repeats):
    """One update of DareU and of DareU+, in parts, and TRL's GRPO step, in milliseconds."""
    run = default_run(device)
    config, limits = run.config, run.limits
    original = model_after_two_epochs(run)
    queries = run.queries(run.request)[: config.forget_batch]
    prompts = [x for x, _ in queries]
    figures = {
        "DareU": dareu_parts(original, run, queries, repeats),
        "DareU+": plus_parts(original, run, queries, repeats),
    }
    with tempfile.TemporaryDirectory() as folder:
        steps = peers.grpo_seconds(
            peers.gpt2_of(original),
            prompts[: len(prompts) // 2],
            limits["max_new_tokens"],
            lr=config.rl_lr,
            temperature=config.temperature,
            folder=folder,
            steps=repeats + 2,
        )
    figures["TRL, GRPO"] = {"whole": steps[2:]}
    lines, grpo = [], median(steps[2:])
    for name, parts in figures.items():
        cells = [f"{1000 * median(parts[key]):.0f}" if key in parts else "" for key in PARTS]
        lines.append([name, *cells, f"{median(parts['whole']) / grpo:.2f}"])
    return ["milliseconds", *PARTS, "over TRL's"], lines, figures


PARTS = ["generation", "scoring", "forget step", "retain step", "whole"]


def dareu_parts(original, run, queries, repeats):
    """{part: seconds of one update}; the rollout serves S_PPO updates, so each has its share."""
    config, limits, prompts = run.config, run.limits, [x for x, _ in queries]
    learner = dareu.make_learner(original.snapshot().requires_grad_(True), config)
    task = make_task(run, partial(prefix_attribution, new_classifier(run)))
    retain = run.references(run.split.retain)
    rows = random.Random(0).sample(retain, min(config.retain_batch, len(retain)))

    def draw():
        generate(original, prompts, temperature=config.temperature, **limits)

    def roll_out():
        kept = dareu.retain_batch(original, rows, task, config)
        return dareu.rollout(learner, original, task, queries), kept

    ro, kept = roll_out()

    def forget_step():
        descend(learner.optimizer, dareu.policy_loss(learner, ro)[0])

    def retain_step():
        descend(learner.optimizer, dareu.distillation_loss(learner.policy, kept))

    drawn, rolled = in_turn(draw, roll_out, repeats)
    forget, kept_seconds = in_turn(forget_step, retain_step, repeats)
    n = config.ppo_steps
    whole = [a / n + b + d for a, b, d in zip(rolled, forget, kept_seconds, strict=True)]
    return {
        "generation": [a / n for a in drawn],
        "scoring": [(b - a) / n for a, b in zip(drawn, rolled, strict=True)],
        "forget step": forget,
        "retain step": kept_seconds,
        "whole": whole,
    }


def plus_parts(original, run, queries, repeats):
    """The same for DareU+, whose forget and retain terms share a step."""
    config, limits, prompts = run.config, run.limits, [x for x, _ in queries]
    policy, classifier = original.snapshot().requires_grad_(True), new_classifier(run)
    attribute = partial(forget_attribution, classifier, forget_owners=run.forget_owners)
    task = replace(make_task(run, None, attribute), forget=queries)
    updates = dareu_plus.unlearn(policy, task, config)

    def draw():
        generate(policy, prompts, temperature=dareu_plus.TEMPERATURE, **limits)

    drawn, whole = in_turn(draw, lambda: next(updates), repeats)
    return {"generation": drawn, "whole": whole}
