import pytest
from hypothesis import example, given, strategies as st

from minidareu.run.flags import STAGES, Config, flag_name, parse
from minidareu.run.defaults import size_rule
from minidareu.files import InputError

FLAGS = [flag_name(f) for f in Config.__dataclass_fields__.values()]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(FLAGS),
            st.text(max_size=5) | st.integers().map(str) | st.floats().map(str),
        ),
        max_size=3,
    )
)
@example([("--truncate", "\x1e")])
def test_any_flags_are_taken_or_refused_in_one_line(pairs):
    try:
        config = parse([text for pair in pairs for text in pair], "")
        assert isinstance(config, Config)
    except InputError as e:
        assert len(str(e).splitlines()) == 1 and "--" in str(e)


def test_a_preset_gives_way_to_what_is_given():
    assert parse(["--preset", "tofu"], "").forget_fraction == 0.1
    config = parse(["--preset", "tofu", "--plus-lr", "0.1", "--forget-fraction", "0.05"], "")
    assert config.plus_lr == 0.1 and config.forget_fraction == 0.05
    for flags in (["--forget", "Ann"], ["--n-forget", "3"]):
        assert parse(["--preset", "tofu", *flags], "").forget_fraction is None


RATE = 0.34


@pytest.mark.parametrize(
    "rows, characters, width",
    [(40, 20, 96), (1216, 50, 96), (1280, 60, 128), (4000, 200, 192), (50_000, 10, 192)],
)
def test_sizes_follow_from_the_data(rows, characters, width):
    config = parse([], "")
    size_rule(config, [f"{i:0{characters}}" for i in range(rows)])
    assert (config.epochs, config.classifier_epochs, config.n_embd) == (None, None, width)
    assert config.lr == pytest.approx(RATE / width, abs=1e-6)


def test_every_field_belongs_to_a_stage_and_is_explained():
    for f in Config.__dataclass_fields__.values():
        assert f.metadata["stage"] in STAGES and len(f.metadata["help"]) > 5


def test_the_defaults_of_dareu_are_the_papers():
    c = Config()
    assert (c.forget_batch, c.slices, c.gae_lambda) == (32, 15, 1), "with lambda 1, A = R - V"
    assert c.dareu_updates(400) == 260, "on TOFU's forget set as many updates as the paper makes"
    assert (c.kl_coef, c.distill_coef, c.value_coef, c.clip) == (0.1, 2, 0.2, 0.2)
    assert (c.temperature, c.c_seg, c.algorithm, c.reward) == (0.8, 1.05, "ppo", "slices")


def test_no_flag_is_unused():
    """Every field is read by the code: as an attribute of a Config, outside of its definition."""
    import re
    from pathlib import Path

    root = Path(__file__).parent.parent
    files = [root / "train.py", *sorted((root / "minidareu").rglob("*.py"))]
    text = "\n".join(path.read_text() for path in files)
    for name in Config.__dataclass_fields__:
        read = rf"\b(config|self)\.{name}\b(?!\s*=[^=])|given\.get\(.{name}.\)"
        assert re.search(read, text), name


def test_what_needs_the_retrained_model():
    with pytest.raises(InputError, match="needs the retrained model; leave out --no-retrained"):
        parse(["--no-retrained", "--second-retrained"], "")
