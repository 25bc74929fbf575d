"""A causal language model and its tokenizer, from a folder or the hub."""

import hashlib
from argparse import Namespace
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from ..attribution import OwnerClassifier
from ..data import Ids, prompt_text
from ..files import InputError
from ..model import GPTConfig
from ..run.flags import Config
from ..run.folder import LLM_FILE, read_config, read_object, read_results
from ..run.prepare import Run, check_same_data, prepare
from ..run.stages import bytes_of, load_classifier, load_weights
from .policy import LLM, Base

FACTS = ["lora_rank", "lora_alpha", "lora_dropout", "bf16", "checkpointing", "chat"]
OPTIONS = ["model", *FACTS]
PLACE = "\u2402prompt\u2403"  # of the prompt in a chat template
MEND = "check the name; without a network, name a folder that holds a causal language model"
READ_ERRORS = (OSError, ValueError, KeyError, ImportError)  # of transformers, for what is not there


class LLMTokenizer:
    """A tokenizer of transformers with tiktoken's names, as all that reads texts here expects."""

    def __init__(self, tokenizer, n_vocab: int, chat: bool):
        self.tokenizer, self.n_vocab, self.chat = tokenizer, n_vocab, chat
        self.eot_token = tokenizer.eos_token_id

    def encode_ordinary(self, text: str) -> Ids:
        """Of a text in which nothing is a control token, whatever it says."""
        encoded = self.tokenizer(text, add_special_tokens=False, split_special_tokens=True)
        return encoded["input_ids"]

    def encode_prompt(self, prompt: str) -> Ids:
        """By the model's chat template, or as plain text after the token that begins a text."""
        if self.chat:
            turn = [{"role": "user", "content": PLACE}]
            how = {"add_generation_prompt": True, "tokenize": False}
            parts = self.tokenizer.apply_chat_template(turn, **how).split(PLACE)
            before, after = self.tokenizer(parts, add_special_tokens=False)["input_ids"]
            return before + self.encode_ordinary(prompt) + after
        first, bos = self.tokenizer("a")["input_ids"][:1], self.tokenizer.bos_token_id
        begin = [bos] if first == [bos] else []
        return begin + self.encode_ordinary(prompt_text(prompt))

    def decode(self, ids: Ids, errors: str = "replace") -> str:
        return self.tokenizer.decode(ids, clean_up_tokenization_spaces=False)


def gguf_file(place: str) -> dict:
    """What transformers has to be told of a folder that holds a model in one GGUF file."""
    files = sorted(Path(place).glob("*.gguf"))
    return {"gguf_file": files[0].name} if files else {}


def refuse(place: str, error: Exception, mend: str = MEND) -> InputError:
    """One line for an error of transformers or peft."""
    return InputError(f"--model {place}: {first_line(error)}; {mend}")


def first_line(error: Exception) -> str:
    """What an error of a library says, or its name."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:200].rstrip(".")


def load_tokenizer(place: str, chat: bool) -> LLMTokenizer:
    """Raises InputError for one that is not there, or lacks what is asked of it."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(place, **gguf_file(place))
        config = AutoConfig.from_pretrained(place, **gguf_file(place))
    except READ_ERRORS as e:
        raise refuse(place, e) from None
    if tokenizer.eos_token_id is None:
        raise InputError(f"--model {place}: its tokenizer has no end of text; set its eos_token")
    if chat and not tokenizer.chat_template:
        raise InputError(f"--chat: {place} has no chat template; leave it out")
    return LLMTokenizer(tokenizer, config.get_text_config().vocab_size, chat)


def read_model(place: str, bf16: bool):
    """A model of transformers. Raises InputError."""
    dtype = torch.bfloat16 if bf16 else torch.float32
    try:
        model: Any = AutoModelForCausalLM.from_pretrained(place, dtype=dtype, **gguf_file(place))
        model.config.quantization_config = model.hf_quantizer = None  # GGUF's; weights are whole
        return model
    except READ_ERRORS as e:
        raise refuse(place, e) from None
    except (MemoryError, RuntimeError):  # the allocator's
        raise InputError(f"--model {place}: too large for the memory; try --bf16") from None


def end_dropout(model) -> None:
    """No dropout of the model's own, as a module or as a number, so that none is on while states
    are computed again. That of the adapters comes later."""
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        for name, value in vars(module).items():
            if "drop" in name and isinstance(value, float):
                setattr(module, name, 0.0)


def digest_of_weights(model) -> str:
    """A digest that changes with any weight of a model."""
    digest = hashlib.sha256()
    for weight in model.state_dict().values():
        digest.update(bytes_of(weight))
    return digest.hexdigest()


def load_policy(place: str, run: Run, options: Namespace) -> LLM:
    """A model with an adapter that changes nothing yet. Raises InputError."""
    model, block_size = read_model(place, options.bf16), run.gpt_config.block_size
    sizes = model.config.get_text_config()
    longest = getattr(sizes, "max_position_embeddings", None) or block_size
    if longest < block_size:
        need = f"reads {longest} tokens, and the rows need {block_size}; shorten them"
        raise InputError(f"--model {place}: {need}")
    model.generation_config = GenerationConfig()  # none of the model's own penalties or cuts
    end_dropout(model)
    model.to(run.device).requires_grad_(False)
    idx = torch.arange(1, 9, device=model.device)[None]
    with torch.no_grad():
        states = model.base_model(input_ids=idx).last_hidden_state
        logits = model.get_output_embeddings()(states)
        if not torch.allclose(logits, model(input_ids=idx).logits, atol=1e-3, rtol=1e-3):
            raise InputError(f"--model {place}: bends its logits; do so in llm/policy.py, `logits`")
    if options.checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    digest = digest_of_weights(model)  # before the adapter is in it
    shape = (sizes.num_hidden_layers, sizes.num_attention_heads, sizes.hidden_size)
    gpt_config = GPTConfig(sizes.vocab_size, block_size, *shape)
    torch.manual_seed(run.config.seed)
    lora = LoraConfig(
        r=options.lora_rank,
        lora_alpha=options.lora_alpha,
        lora_dropout=options.lora_dropout,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    try:
        peft = get_peft_model(model, lora, adapter_name="start")
    except ValueError as e:
        raise refuse(place, e, "LoRA can't be added to it; give another model") from None
    return LLM(Base(model, peft, gpt_config, digest, checkpointing=options.checkpointing))


def prepare_run(options: Namespace, config: Config) -> tuple[Run, LLM]:
    """The run, and the model that it begins with. Raises InputError."""
    run = prepare(config, load_tokenizer(options.model, options.chat))
    run.identity["llm"] = True  # a folder is of one kind
    run.facts = {name: getattr(options, name) for name in FACTS}
    return run, load_policy(options.model, run, options)


def open_models(folder: Path, device: str) -> tuple[Run, dict[str, LLM], OwnerClassifier]:
    """A finished run, its models by name, and its classifier. Raises InputError."""
    options = Namespace(**read_object(folder / LLM_FILE, OPTIONS))
    config = replace(read_config(folder), device=device, out=str(folder))
    run, start = prepare_run(options, config)
    check_same_data(run, folder)
    run.keys = read_results(folder)["keys"]
    models = {name: load_weights(start.snapshot(), run.path(name), run.keys) for name in run.models}
    return run, models, load_classifier(run)
