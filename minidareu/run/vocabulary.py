"""The tokenizer of a run: trained on its rows, kept with it, or GPT-2's."""

import base64
import hashlib
import json
from pathlib import Path

import tiktoken

from ..data import Record, prompt_text, response_text
from ..files import InputError, write_json
from ..tokenizer import make_encoding, train_tokenizer
from .flags import Config
from .folder import TOKENIZER
from .source import source_digest


def make_tokenizer(config: Config, train: list[Record]) -> tuple[tiktoken.Encoding, str | None]:
    """The tokenizer of a run, kept from before where it is the same; and its key, None for one that
    is not trained. Raises InputError."""
    if config.tokenizer == "gpt2":
        return gpt2_tokenizer(), None
    assert config.vocab_size and config.out
    texts = [text for r in train for text in (prompt_text(r.prompt), response_text(r.response))]
    key = tokenizer_key(texts, config.vocab_size)
    kept = read_tokenizer(Path(config.out) / TOKENIZER, key)
    return kept or train_tokenizer(texts, config.vocab_size), key


def tokenizer_key(texts: list[str], vocab_size: int) -> str:
    """A digest of all that `train_tokenizer` depends on: texts, size, and its source."""
    facts = [source_digest(train_tokenizer), vocab_size, texts]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def write_tokenizer(path: Path, key: str, encoding: tiktoken.Encoding) -> None:
    """Keep an encoding with a run: its tokens in the order of their ids."""
    tokens = [encoding.decode_single_token_bytes(i) for i in range(encoding.eot_token)]
    write_json(path, {"key": key, "tokens": [base64.b64encode(t).decode() for t in tokens]})


def read_tokenizer(path: Path, key: str) -> tiktoken.Encoding | None:
    """The encoding that a run has kept; None where there is none of this key."""
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        tokens = [base64.b64decode(text) for text in kept["tokens"]]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    ranks = {token: rank for rank, token in enumerate(tokens)}
    return make_encoding(ranks) if kept.get("key") == key else None


def gpt2_tokenizer() -> tiktoken.Encoding:
    """GPT-2's own encoding, which tiktoken fetches on first use. Raises InputError."""
    try:
        return tiktoken.get_encoding("gpt2")
    except Exception as e:  # whatever the network layer raises
        raise InputError(
            f"--tokenizer gpt2: its ranks can't be fetched ({type(e).__name__}); "
            "go online once, or use --tokenizer bpe"
        ) from None
