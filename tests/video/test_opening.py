"""Addresses that lead to no video."""

import time

import pytest

from dfd_core.errors import VideoEmptyError, VideoMissingError
from dfd_core.video.opening import RETRY_DELAYS_S, open_video, retried


@pytest.mark.parametrize("target", ["/proc/self/mem", "/proc/self/status", "/dev/zero", "/proc/self"])
def test_a_link_to_a_file_of_the_kernel_is_no_video(tmp_path, target):
    (tmp_path / "a.mp4").symlink_to(target)
    with pytest.raises((VideoMissingError, VideoEmptyError)):
        open_video(str(tmp_path / "a.mp4"))


def test_an_address_of_no_known_storage_is_missing_and_not_tried_again():
    def attempt():
        try:
            open_video("zip://a.mp4::/data/x.zip")
        except VideoMissingError as error:
            return {"error_kind": error.kind}

    started_s = time.monotonic()
    assert retried(attempt) == {"error_kind": "missing"}
    assert time.monotonic() - started_s < RETRY_DELAYS_S[0]
