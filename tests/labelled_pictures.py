"""Generated pictures that a model can tell apart: fakes have fine stripes in their noise, reals do not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dfd_core.faces.images import encode


def picture(*, is_fake: bool, seed: int, side_px: int = 32) -> np.ndarray:
    rng = np.random.default_rng(seed)
    pixels = rng.normal(rng.uniform(80, 170), 20, (side_px, side_px, 3))
    if is_fake:
        pixels[::2] += 40
    return np.clip(pixels, 0, 255).astype(np.uint8)


def rows(
    num_videos: int = 40, *, faces_per_video: int = 2, videos_per_group: int = 2
) -> list[dict[str, Any]]:
    """Rows `name label group jpeg`: in each group reals and fakes by turns."""
    return [
        {
            "name": f"v{video:03d}",
            "label": "fake" if video % 2 else "real",
            "group": f"g{video // videos_per_group:03d}",
            "jpeg": encode(picture(is_fake=bool(video % 2), seed=1000 * video + face), "png"),
        }
        for video in range(num_videos)
        for face in range(faces_per_video)
    ]


def write_table(path: Path, table_rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(table_rows), path)
    return path
