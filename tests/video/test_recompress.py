import numpy as np
import pytest

from dfd_core.video.recompress import recompressed


def picture(height, width):
    rng = np.random.default_rng(1)
    smooth = np.linspace(40, 200, width)[None, :, None] + np.zeros((height, 1, 3))
    return np.clip(smooth + rng.normal(0, 12, (height, width, 3)), 0, 255).astype(np.uint8)


@pytest.mark.parametrize(("height", "width"), [(64, 64), (65, 63), (17, 16)])
def test_frames_keep_their_number_and_size_and_a_higher_rate_factor_is_coarser(height, width):
    frames = [picture(height, width)] * 3
    errors = []
    for crf in (1, 20, 40):
        found = recompressed(frames, crf=crf)
        assert [frame.shape for frame in found] == [(height, width, 3)] * 3
        assert {frame.dtype for frame in found} == {np.dtype(np.uint8)}
        errors.append(np.abs(found[-1].astype(float) - frames[-1]).mean())
    assert errors[0] < errors[1] < errors[2]
    assert errors[2] > 4
