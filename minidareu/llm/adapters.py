"""What a run leaves of its models: for each a folder that plain peft reads, with a card."""

import os
import shutil
from contextlib import contextmanager
from pathlib import Path

from ..files import InputError, write_text
from ..report.printed import SHOWN, cell
from .loading import ADAPTER, first_line, read_model

CARD = """---
base_model: {base}
library_name: peft
---
# {name}

A LoRA adapter of `{base}`, made by minidareu. {n_forget} of the {n_owners} owners of its data
asked to be forgotten; who they are stands in the run's results.json, and not here.

| score | |
| --- | --- |
{scores}

Forget and retain are training rows; ToW is the product of 1 - |score - the retrained model's|.
"""


@contextmanager
def whole_folder(path: Path):
    """A folder that comes to be whole or not at all: what is yielded takes its place. Raises
    InputError."""
    temporary = path.with_name(f"{path.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        yield temporary
        shutil.rmtree(path, ignore_errors=True)
        os.replace(temporary, path)
    except InputError:
        raise
    except Exception as e:  # a full disk has another name in each library
        raise InputError(
            f"{path}: can't be written ({first_line(e)}); make room, and run the same command again"
        ) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def base_place(run, options) -> str:
    """The folder, or the name on the hub, of the model that the adapters are on. Where --original
    is an adapter, it is the merged model, which is written beside them."""
    place = options.original or options.model
    if (Path(place) / ADAPTER).exists():
        with whole_folder(run.folder / "base") as folder:
            read_model(place, options.bf16).save_pretrained(folder)
        place = str(run.folder / "base")
    return str(Path(place).resolve()) if Path(place).exists() else place


def write_adapters(run, options, models, evaluations) -> None:
    """A folder for each model; on request whole models too. Raises InputError."""
    if options.lora_rank == 0:
        return
    place = base_place(run, options)
    others = {"original": options.original, "retrained": options.retrained_model}
    for name, model in models.items():
        if others.get(name):
            continue  # somebody else's
        with whole_folder(run.folder / name) as folder:
            adapter = model.copy(trains=False, name="default")
            peft = adapter.base.peft
            peft.peft_config["default"].base_model_name_or_path = place
            how = {"selected_adapters": ["default"], "save_embedding_layers": False}
            peft.save_pretrained(str(folder), **how)
            run.tokenizer.tokenizer.save_pretrained(str(folder))
            write_text(folder / "README.md", card(run, name, place, evaluations[name].scores))
            del adapter
        merged = run.folder / f"{name}-merged"
        if not run.stages[name]["kept"]:  # it was merged of an earlier model
            shutil.rmtree(merged, ignore_errors=True)
        if options.merge:
            with whole_folder(merged) as folder:
                read_model(str(run.folder / name), options.bf16).save_pretrained(folder)
                run.tokenizer.tokenizer.save_pretrained(folder)


def card(run, name, place, scores) -> str:
    """A model's card."""
    lines = [f"| {title} | {cell(scores[key])} |" for key, title in SHOWN.items()]
    return CARD.format(
        base=place,
        name=name,
        n_forget=len(run.split.forget_owners),
        n_owners=len(run.split.owners),
        scores="\n".join(lines),
    )
