"""A run's folder: what belongs together is told by its key; what is not ours stays."""

import json
import shutil

import pytest
import torch

import train
from conftest import FAST
from minidareu import sample
from minidareu.beyond import audit
from minidareu.explain import __main__ as explain
from minidareu.files import InputError
from minidareu.run import stages

TINY = "--epochs 2 --classifier-epochs 2 --plus-updates 2 --ppo-steps 2 --data-epochs 1"
QUICK = [*FAST, *TINY.split(), "--no-curve"]


@pytest.fixture(scope="module")
def small(toy, tmp_path_factory):
    """Flags of a run of next to no training, and such a run."""
    out = tmp_path_factory.mktemp("small") / "run"
    argv = ["--data", str(toy), "--n-forget", "2", *QUICK]
    train.main([*argv, "--out", str(out)])
    return argv, out


@pytest.mark.parametrize("stage", ["original", "dareu_plus"])
def test_a_run_that_was_begun_anew_and_stopped_is_not_mixed_with_the_old_one(
    small, tmp_path, stage, monkeypatch
):
    """Wherever the folder is opened: the old scores are not those of the new models."""
    argv, out = small
    folder = tmp_path / "run"
    shutil.copytree(out, folder)
    flags = {"original": ["--epochs", "1"], "dareu_plus": ["--plus-updates", "1"]}[stage]
    save = stages.save

    def stop(run, name, key, state):
        save(run, name, key, state)
        if name == stage:
            raise KeyboardInterrupt

    monkeypatch.setattr(stages, "save", stop)
    with pytest.raises(KeyboardInterrupt):
        train.main([*argv, *flags, "--out", str(folder)])
    monkeypatch.undo()
    name = json.loads((folder / "results.json").read_text())["forget"][0]
    for main, more in ((sample.main, [f"Where is {name}?"]), (audit.main, []), (explain.main, [])):
        with pytest.raises(InputError, match="not the model that results.json tells of"):
            main(["--run", str(folder), "--device", "cpu", *more])
    further = ["--from", str(folder), "--forget", "Bob Moss", "--out", str(tmp_path / "second")]
    if stage == "dareu_plus":
        with pytest.raises(InputError, match="not the model that results.json tells of"):
            train.main([*further, "--device", "cpu"])
    train.main([*argv, *flags, "--out", str(folder)])
    sample.main(["--run", str(folder), f"Where is {name}?"])


def test_overwriting_takes_what_is_ours_alone(small, tmp_path):
    argv, out = small
    folder = tmp_path / "run"
    shutil.copytree(out, folder)
    torch.save({"layer1.weight": torch.ones(3)}, folder / "resnet50.pt")
    (folder / "notes.pt").write_bytes(b"no checkpoint at all")
    (folder / "thesis.txt").write_text("x")
    before = {
        name: (folder / name).read_bytes() for name in ("resnet50.pt", "notes.pt", "thesis.txt")
    }
    other = ["--seed", "1", "--methods", "dareu", "--overwrite", "--out", str(folder)]
    train.main([*argv, *other])
    assert {name: (folder / name).read_bytes() for name in before} == before
    assert not (folder / "dareu_plus.pt").exists(), "of the run that was overwritten"


@pytest.mark.parametrize("name", ["results.json", "report.html"])
def test_a_file_of_ones_own_is_not_overwritten_in_a_folder_that_is_no_run(small, tmp_path, name):
    argv, _ = small
    (tmp_path / name).write_text("mine")
    with pytest.raises(InputError, match=f"holds {name}, which is not of a run"):
        train.main([*argv, "--out", str(tmp_path), "--overwrite"])
    assert (tmp_path / name).read_text() == "mine"


@pytest.mark.parametrize("flag", ["--from", "--reuse"])
def test_a_run_that_is_read_is_not_erased(small, tmp_path, flag):
    argv, out = small
    folder, link = tmp_path / "run", tmp_path / "link"
    shutil.copytree(out, folder)
    link.symlink_to(folder)
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    for place in (folder, link, tmp_path / "run" / ".." / "run"):
        flags = [flag, str(folder), "--out", str(place), "--overwrite", "--device", "cpu"]
        flags += ["--forget", "Bob Moss"] if flag == "--from" else argv
        with pytest.raises(InputError, match=f"is the folder that {flag} reads"):
            train.main(flags)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before


def test_what_is_given_is_not_dropped_without_a_word(small, tmp_path):
    argv, out = small
    for flag in ("--reuse", "--from"):
        with pytest.raises(InputError, match="r/typo/(experiment|results).json: not there"):
            train.main([*argv, flag, "r/typo", "--out", str(tmp_path / "run")])
    shutil.copytree(out, tmp_path / "one")
    train.main([*argv, "--seed", "1", "--overwrite", "--out", str(tmp_path / "one")])
    further = ["--from", str(tmp_path / "one"), "--forget", "Cy Lee", "--device", "cpu"]
    for flags in (["--seed", "0"], ["--batch-size", "16", "--seed", "0"], ["--n-layer", "2"]):
        with pytest.raises(InputError, match="which this run goes on from; leave it out"):
            train.main([*further, *flags, "--out", str(tmp_path / "two")])
    assert not (tmp_path / "two").exists()
