import pytest
from hypothesis import example, given, strategies as st

from minidareu.config import Config, flag_name, parse, size_rule
from minidareu.data import InputError

FLAGS = [flag_name(f) for f in Config.__dataclass_fields__.values()]


@given(st.lists(st.tuples(st.sampled_from(FLAGS), st.text(max_size=5) | st.integers().map(str) | st.floats().map(str)), max_size=3))
@example([("--truncate", "\x1e")])
def test_any_flags_are_taken_or_refused_in_one_line(pairs):
    try:
        config = parse([text for pair in pairs for text in pair], "")
        assert isinstance(config, Config)
    except InputError as e:
        assert len(str(e).splitlines()) == 1 and "--" in str(e)


def test_a_preset_gives_way_to_what_is_given():
    assert parse(["--preset", "tofu"], "").forget_fraction == 0.1 and parse(["--preset", "tofu"], "").n_embd == 192
    config = parse(["--preset", "tofu", "--n-embd", "64", "--forget-fraction", "0.05"], "")
    assert config.n_embd == 64 and config.forget_fraction == 0.05 and config.vocab_size == 4096
    for flags in (["--forget", "Ann"], ["--n-forget", "3"]):
        assert parse(["--preset", "tofu", *flags], "").forget_fraction is None


@pytest.mark.parametrize("rows, characters, epochs, classifier_epochs, width", [
    (40, 20, 640, 800, 96), (1216, 50, 34, 43, 96), (1280, 60, 32, 40, 128), (4000, 200, 32, 40, 192), (50_000, 10, 8, 8, 192), (16_000, 40, 16, 16, 192)])
def test_sizes_follow_from_the_data(rows, characters, epochs, classifier_epochs, width):
    config = parse([], "")
    size_rule(config, [f"{i:0{characters}}" for i in range(rows)], 64)
    assert (config.epochs, config.classifier_epochs, config.n_embd) == (epochs, classifier_epochs, width)
    assert config.lr == pytest.approx(0.48 / width, abs=1e-6)
