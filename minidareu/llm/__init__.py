import os
import warnings

os.environ.setdefault("TQDM_DISABLE", "1")  # bars of libraries; ours say for themselves
try:
    import peft, transformers  # noqa: E401, F401
except ImportError as e:
    raise SystemExit(f'minidareu.llm: error: no {e.name}; pip install -e ".[llm]"') from None

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
warnings.filterwarnings("ignore", module="transformers|peft|torch.utils.checkpoint")
