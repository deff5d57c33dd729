"""What a video can do that has taken its process over: nothing. `make drill-attack` tries the rest."""

import pytest

from benchmarks.attacks import RIGHTS
from benchmarks.drill_attack import CONFIG, attack_all
from benchmarks.forgeries import FORGERIES
from dfd_core.errors import UnexpectedError, VideoCrashedError
from dfd_core.stages.sandbox import Sandbox
from dfd_core.stages.sandbox.answer import decoded_answer, encoded_answer

FORGERY_NAMES = ["send_a_pickle", "flood", "announce_more_pictures", "send_another_table"]

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def full_confinement():
    sandbox = Sandbox(CONFIG)
    confinement = sandbox.confinement()
    sandbox.close()
    if confinement["level"] != "full":
        pytest.skip(f"this kernel offers less than full confinement: {confinement}")


def test_every_right_is_refused_and_the_next_video_is_decoded(full_confinement):
    outcomes = attack_all([attack.__name__ for attack in RIGHTS])
    assert {outcome.attack: outcome.faults for outcome in outcomes if outcome.faults} == {}
    assert {outcome.row["error_kind"] for outcome in outcomes} == {"unreadable"}


def test_every_forged_answer_ends_as_the_row_of_its_own_video():
    assert set(FORGERY_NAMES) <= {forgery.__name__ for forgery in FORGERIES}
    outcomes = attack_all(FORGERY_NAMES)
    assert {outcome.attack: outcome.faults for outcome in outcomes if outcome.faults} == {}
    assert {outcome.row["error_kind"] for outcome in outcomes} <= {"crashed", "unexpected"}


def test_a_row_comes_back_as_it_was_sent():
    row = {
        "a": [1, -2.5, None, True],
        "b": {"c": b"\x00\xff", "d": b""},
        "e": [b"x" * 1000],
        "f": float("inf"),
    }
    assert decoded_answer(b"".join(encoded_answer(row, max_bytes=10_000))) == row


@pytest.mark.parametrize("keep", range(0, 60, 7))
def test_a_cut_answer_is_no_answer(keep):
    content = b"".join(encoded_answer({"a": b"0123456789", "b": [1, 2, 3]}, max_bytes=10_000))
    with pytest.raises(VideoCrashedError):
        decoded_answer(content[: min(keep, len(content) - 1)])


def test_an_error_comes_back_as_it_was_raised():
    with pytest.raises(UnexpectedError, match="a fault of ours"):
        decoded_answer(b"".join(encoded_answer(UnexpectedError("a fault of ours"), max_bytes=10_000)))
