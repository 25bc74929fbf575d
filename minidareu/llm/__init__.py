import warnings

try:
    import peft, transformers  # noqa: E401, F401
except ImportError as e:
    raise SystemExit(
        f'minidareu.llm: error: {e.name} is missing; pip install -e ".[llm]"'
    ) from None

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
warnings.filterwarnings("ignore", module="transformers|peft|torch.utils.checkpoint")
