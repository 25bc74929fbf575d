"""What is trained before anything is unlearned, each in a process of its own where there is one."""

from contextlib import contextmanager

import torch

from ..attribution import train_classifier
from ..pretrain import train_lm
from .pool import allowed_cpus
from .stages import timed

WIDE = 256  # channels, from which on more than one thread is worth it


@contextmanager
def few_threads(width):
    """One thread for a small model: more gain little, and its digits do not depend on them."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1 if width < WIDE else threads)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def language_model(config, rows, training, device, bar):
    """A checkpoint of a language model: see `train_lm`."""

    def make():
        with few_threads(config.n_embd):
            model, passes = train_lm(config, rows, training, device, **bar)
        return {"model": model.cpu().state_dict(), "passes": passes}

    return timed(make)


def owner_classifier(classifier, rows, training, bar):
    """A checkpoint of a classifier: see `train_classifier`."""

    def make():
        with few_threads(classifier.head.in_features):
            passes = train_classifier(classifier, rows, training, **bar)
        return {"classifier": classifier.cpu().state_dict(), "passes": passes}

    return timed(make)


def workers_for(device, n_jobs):
    """How many trainings go side by side: one on a GPU, or where there is one thread alone."""
    if device != "cpu":
        return 1
    return max(1, min(n_jobs, allowed_cpus(), torch.get_num_threads()))
