import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfd_core.errors import RequestError
from dfd_core.training.splits import audit, group_numbers, split_by_group


def faces(videos, faces_per_video=1):
    """Faces of `(group, is_fake)` a video; every picture its own."""
    return pd.DataFrame(
        [
            {
                "video_id": f"v{number}",
                "group": group,
                "is_fake": is_fake,
                "image_hash": f"{number}/{face}".encode(),
            }
            for number, (group, is_fake) in enumerate(videos)
            for face in range(faces_per_video)
        ]
    )


def pairs(count):
    """Groups of one real and one fake."""
    return [(f"g{number // 2}", bool(number % 2)) for number in range(count)]


@given(
    videos=st.lists(
        st.tuples(st.sampled_from([None, *"abcdefghijklmnop"]), st.booleans()), min_size=4, max_size=80
    ),
    shared=st.lists(st.tuples(st.integers(0, 79), st.integers(0, 79)), max_size=6),
    seed=st.integers(0, 5),
)
def test_nothing_is_ever_on_both_sides(videos, shared, seed):
    table = faces(videos)
    for first, second in shared:
        if max(first, second) < len(table):
            table.loc[first, "image_hash"] = table.loc[second, "image_hash"]
    try:
        split = split_by_group(table, validation=0.3, seed=seed)
    except RequestError:
        return
    assert set(audit(table, split.is_validation).values()) == {0}
    for side in (split.is_validation, ~split.is_validation):
        assert set(table["is_fake"][side]) == {True, False}


def test_both_labels_get_their_share_of_the_videos():
    videos = [(f"g{number // 3}", number % 3 > 0) for number in range(600)]
    table = faces(videos, faces_per_video=2)
    split = split_by_group(table, validation=0.2, seed=0)
    for is_fake in (True, False):
        assert split.is_validation[table["is_fake"] == is_fake].mean() == pytest.approx(0.2, abs=0.02)


def test_the_seed_decides_the_split():
    table = faces(pairs(200))
    first, again, other = (
        split_by_group(table, validation=0.2, seed=seed).is_validation for seed in (1, 1, 2)
    )
    assert (first == again).all()
    assert (first != other).any()


def test_groups_that_share_a_picture_are_one():
    table = faces(pairs(40))
    table.loc[0, "image_hash"] = table.loc[39, "image_hash"] = b"same"
    for seed in range(8):
        split = split_by_group(table, validation=0.3, seed=seed)
        assert (
            split.is_validation[0]
            == split.is_validation[1]
            == split.is_validation[38]
            == split.is_validation[39]
        )
        assert (split.num_groups, split.num_joined_groups, split.num_shared_images) == (20, 1, 1)
        assert split.component[0] == split.component[39] != split.component[2]


def test_a_video_without_a_group_is_its_own_and_never_that_of_a_name():
    table = faces([(None, True), (None, False), ("v0", True), (None, False)])
    assert len(np.unique(group_numbers(table))) == 4


def test_the_audit_finds_what_is_on_both_sides():
    table = faces(pairs(4))
    split = np.array([True, False, False, False])
    with pytest.raises(ValueError, match="'groups_on_both_sides': 1"):
        audit(table, split)
    table = faces(pairs(4))
    table.loc[3, "image_hash"] = table.loc[0, "image_hash"]
    with pytest.raises(ValueError, match="'identical_images_on_both_sides': 1"):
        audit(table, np.array([True, True, False, False]))
    with pytest.raises(ValueError, match="'videos_on_both_sides': 1"):
        audit(faces([(None, True)], faces_per_video=2), np.array([True, False]))


@pytest.mark.parametrize(
    ("videos", "complaint"),
    [
        ([("a", True), ("b", True)], "0 real, 2 fake"),
        ([("a", True), ("a", False)], "Too few groups"),
        ([("a", True), ("b", False), ("b", True)], "Too few groups"),
        ([], "0 real, 0 fake"),
    ],
)
def test_what_cannot_be_split_is_refused(videos, complaint):
    table = faces(videos) if videos else faces([("a", True)]).iloc[:0]
    with pytest.raises(RequestError, match=complaint):
        split_by_group(table, validation=0.2, seed=0)
