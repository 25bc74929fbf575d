"""What a run leaves of its models: for each a folder that plain peft reads, with a card."""

import os
import shutil
from pathlib import Path

from ..files import InputError, write_text
from ..report.printed import SHOWN, cell
from .loading import first_line

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


def write_adapters(run, options, models, evaluations) -> None:
    """A folder for each model, whole or not at all. Raises InputError."""
    base = str(Path(options.model).resolve()) if Path(options.model).exists() else options.model
    owners = {"n_forget": len(run.split.forget_owners), "n_owners": len(run.split.owners)}
    for name, model in models.items():
        scores = evaluations[name].scores
        rows = "\n".join(f"| {title} | {cell(scores[key])} |" for key, title in SHOWN.items())
        card = CARD.format(base=base, name=name, scores=rows, **owners)
        folder, temporary = run.folder / name, run.folder / f"{name}.tmp"
        shutil.rmtree(temporary, ignore_errors=True)
        try:
            save_adapter(model, base, run.tokenizer.tokenizer, temporary)
            write_text(temporary / "README.md", card)
            shutil.rmtree(folder, ignore_errors=True)
            os.replace(temporary, folder)
        except Exception as e:  # a full disk has another name in each library
            shutil.rmtree(temporary, ignore_errors=True)
            raise InputError(
                f"{folder}: can't be written ({first_line(e)}); make room, and run the same "
                "command again"
            ) from None


def save_adapter(model, base: str, tokenizer, folder: Path) -> None:
    """An adapter by the name that peft looks for, and the tokenizer."""
    adapter = model.copy(trains=False, name="default")
    peft = adapter.base.peft
    peft.peft_config["default"].base_model_name_or_path = base
    peft.save_pretrained(str(folder), selected_adapters=["default"], save_embedding_layers=False)
    tokenizer.save_pretrained(str(folder))
