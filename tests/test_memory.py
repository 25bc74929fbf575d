"""Evaluation in chunks: memory does not grow with the number of rows. Each in a process of its own."""

import subprocess
import sys
from pathlib import Path

import pytest

MOST = 300  # MB above what the models and the data take
BEGIN = """
import random, re, torch
from minidareu.data import Record
from minidareu.scores.chunks import generate_in_chunks
from minidareu.scores.judge import Judge
from minidareu.scores.likelihood import perplexity
from minidareu.model import GPT, GPTConfig

torch.set_num_threads(1)

def peak():
    return int(re.search("VmHWM: *\\t* *([0-9]+)", open("/proc/self/status").read())[1]) / 1024

def rows(n, vocab_size, length=60):
    return [random.choices(range(vocab_size), k=length) for _ in range(n)]

def gpt(vocab_size, block_size=80):
    return GPT(GPTConfig(vocab_size=vocab_size, block_size=block_size, n_layer=1, n_embd=32))
"""
CASES = {
    "perplexity, GPT-2's vocabulary": """
model, x, y = gpt(50257), rows(100, 50257, 5), rows(100, 50257)
before = peak()
perplexity(model, x, y)
""",
    "judge, 500 owners": """
words = [str(i) for i in range(5000)]
records = [
    Record(f"owner {i % 500}", "Who?", " ".join(random.choices(words, k=15))) for i in range(10000)
]
Judge(records[:2], ["owner 0", "owner 1"], seed=0, steps=1)  # torch loads more of itself
before = peak()
judge = Judge(records, [f"owner {i}" for i in range(500)], seed=0, steps=5)
judge.attribution([r.prompt for r in records], [r.response for r in records], [3])
""",
    "generation, a long context": """
model, x = gpt(300, block_size=1024), rows(200, 300, 900)
before = peak()
generate_in_chunks(model, x, max_new_tokens=2, temperature=0, eos_id=0)
""",
}


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read from Linux")
@pytest.mark.parametrize("name", CASES)
def test_peak_memory_does_not_grow_with_the_rows(name):
    code = BEGIN + CASES[name] + "print(peak() - before)"
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    assert float(process.stdout) < MOST, f"{float(process.stdout):.0f} MB"
