"""The dataset that stands for the paper's ArXiv."""

import subprocess
import sys

from ..run.pool import ROOT

# S_PPO and |B_f| are the paper's for ArXiv; |B_r| has about as many tokens as on the authors.
ARXIV = "--ppo-steps 6 --forget-batch 16 --retain-batch 32".split()


def make_abstracts(folder):
    """abstracts.jsonl in a folder, made unless it is there: its path."""
    path = folder.resolve() / "abstracts.jsonl"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        script = ROOT / "data/abstracts/prepare.py"
        command = [sys.executable, str(script), "--out", str(path)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return path
