try:
    import accelerate, peft, transformers  # noqa: E401, F401
except ImportError as e:
    raise SystemExit(
        f'minidareu.llm: error: {e.name} is missing; pip install -e ".[llm]"'
    ) from None
