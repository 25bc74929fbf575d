from dataclasses import replace

import pytest
from hypothesis import example, given, strategies as st

from minidareu.run.flags import GROUPS, Config, comments, flag_name, parse, size_rule
from minidareu.dareu import VALUE_COEF
from minidareu.files import InputError

FLAGS = [flag_name(name) for name in Config.__dataclass_fields__]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(FLAGS),
            st.text(max_size=5) | st.integers().map(str) | st.floats().map(str),
        ),
        max_size=3,
    )
)
@example([("--curve", "\x1e")])
def test_any_flags_are_taken_or_refused_in_one_line(pairs):
    try:
        config = parse([text for pair in pairs for text in pair], "")
        assert isinstance(config, Config)
    except InputError as e:
        assert len(str(e).splitlines()) == 1 and "--" in str(e)


def test_flags_from_a_file_give_way_to_what_is_given(tmp_path):
    file = tmp_path / "flags"
    file.write_text("--plus-lr 0.2 --n-embd 64  # a comment\n\n--forget-fraction 0.1\n")
    config = parse([f"@{file}"], "")
    assert (config.plus_lr, config.n_embd, config.forget_fraction) == (0.2, 64, 0.1)
    assert parse([f"@{file}", "--plus-lr", "0.1"], "").plus_lr == 0.1
    with pytest.raises(InputError, match="nowhere"):
        parse(["@nowhere"], "")


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


def test_every_field_is_explained_and_there_are_few():
    explained = {name: text for group in GROUPS for name, text in comments(group).items()}
    assert explained.keys() == Config.__dataclass_fields__.keys()
    assert all(len(text) > 5 for text in explained.values())
    assert len(explained) <= 55


def test_a_setting_that_two_modules_read_has_one_default():
    for group in GROUPS:
        for name in group.__dataclass_fields__:
            assert getattr(group(), name) == getattr(Config(), name), name


def test_the_defaults_of_dareu_are_the_papers():
    c = Config()
    assert (c.forget_batch, c.slices, c.gae_lambda) == (32, 15, 1), "with lambda 1, A = R - V"
    assert replace(c, ppo_steps=20).epochs_over(13) * 13 * 20 == 260, (
        "on TOFU's forget set as many updates as the paper makes"
    )
    assert (c.kl_coef, c.distill_coef, VALUE_COEF, c.clip) == (0.1, 2, 0.2, 0.2)
    assert (c.temperature, c.c_seg, c.algorithm, c.reward) == (0.8, 1.05, "ppo", "slices")


def test_help_names_every_flag(capsys):
    with pytest.raises(SystemExit):
        parse(["--help"], "")
    printed = capsys.readouterr().out
    assert all(flag in printed for flag in FLAGS) and len(printed.splitlines()) <= 95


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
