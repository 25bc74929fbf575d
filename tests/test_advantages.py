"""How alike two rewards are: a closed form for the constant one."""

from dataclasses import replace

import numpy
import pytest

from minidareu.beyond import advantages
from minidareu.run.flags import CONTROLS


@pytest.fixture(scope="module")
def opened(run):
    return advantages.open_for_rollout(run[1], "cpu")


def test_under_a_constant_the_advantage_is_what_is_left_of_the_response(opened):
    finished, original, classifier = opened
    finished.config = replace(finished.config, gamma=0.8, gae_lambda=1.0)
    found, position = advantages.first_advantages(finished, original, classifier, "constant")
    position = position.numpy()
    ends = numpy.append(numpy.flatnonzero(numpy.diff(position) < 0), len(position) - 1)
    lengths = numpy.diff(numpy.append(-1, ends))
    left = numpy.repeat(lengths, lengths) - position + 1  # tokens still to come, this one too
    returns = -(1 - 0.8**left)  # a geometric series, up to a factor
    assert numpy.corrcoef(found.numpy(), returns)[0, 1] == pytest.approx(1, abs=1e-4)


def test_correlations(opened):
    found = advantages.correlations(*opened)
    assert set(found) == {*CONTROLS, "position"}
    assert all(-1 <= value <= 1 for value in found.values())
    assert found["shuffled"] < 0.999, "dealt to other responses"


def test_the_command_prints_a_row_for_each_pair(run, capsys):
    advantages.main(["--run", str(run[1])])
    rows = capsys.readouterr().out.strip().splitlines()[2:]
    assert len(rows) == len(advantages.GAMMAS) * len(advantages.LAMBDAS)
