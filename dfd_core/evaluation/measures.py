"""What a run measured of its videos besides the verdict."""

from __future__ import annotations

import numpy as np
import pandas as pd

from dfd_core.evaluation.truth import group_numbers, read_columns
from dfd_core.run.output_folder import OutputFolder

MEASURES = (
    *("face_share", "side_px", "sharpness", "brightness", "blockiness", "bits_per_pixel"),
    *("num_frames", "num_faces", "duration_s"),
)
"""Columns of `videos/` whose distribution says whether two runs saw alike material."""


def read_measures(folder: str) -> pd.DataFrame:
    """Return one row a video: `video_id group p_fake` and what there is of `MEASURES`, NaN where a video has none.

    Raises:
        OutputError: The table of videos cannot be read.
    """
    videos = OutputFolder.at(folder).videos
    table = read_columns(videos, ("video_id", "p_fake"), ("group", *MEASURES), numbers=MEASURES)
    columns: dict[str, pd.Series] = {}
    for name in table.column_names:
        values = table.column(name)
        if name in ("video_id", "group"):
            columns[name] = pd.Series([text or None for text in values.to_pylist()], dtype=object)
        else:
            columns[name] = pd.Series(values.to_numpy().astype(np.float64))
    frame = pd.DataFrame(columns)
    return frame.assign(group=group_numbers(frame))
