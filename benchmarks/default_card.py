"""What the default detector's card says of calibration and thresholds, from its validation logits.

NPZ holds `POOL_logit` (of fake), `POOL_y` (1 fake) and `POOL_vid` for several pools. The calibration is fitted on the pools named by
--calibrate; the thresholds are quantiles of the videos of those named by --thresholds, a video being the mean of its faces.

  python -m benchmarks.default_card val.npz
"""

from __future__ import annotations

import argparse
import json

import numpy as np

from dfd_core.model.calibration import Calibration, fit_calibration


def faces_of(npz: np.lib.npyio.NpzFile, pool: str) -> tuple[np.ndarray, np.ndarray]:
    """Return whether each face of a pool is fake, and its score."""
    logits = npz[f"{pool}_logit"].astype(np.float64)
    return npz[f"{pool}_y"] == 1, 1 / (1 + np.exp(-logits))


def videos_of(
    npz: np.lib.npyio.NpzFile, pool: str, calibration: Calibration
) -> tuple[np.ndarray, np.ndarray]:
    """Return whether each video of a pool is fake, and its calibrated score."""
    is_fake, p_raw = faces_of(npz, pool)
    _, video = np.unique(npz[f"{pool}_vid"], return_inverse=True)
    count = np.bincount(video)
    p_fake = calibration.apply(p_raw.astype(np.float32)).astype(np.float64)
    return np.bincount(video, is_fake) / count > 0.5, np.bincount(video, p_fake) / count


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("npz")
    parser.add_argument("--calibrate", nargs="+", default=["dfdc"])
    parser.add_argument("--thresholds", nargs="+", default=["dfdc", "ff23", "ff40", "ffimg"])
    parser.add_argument("--rate", type=float, default=0.02, help="Of wrong verdicts, for each of the two.")
    flags = parser.parse_args()
    npz = np.load(flags.npz)
    is_fake, p_raw = (
        np.concatenate(part) for part in zip(*(faces_of(npz, pool) for pool in flags.calibrate), strict=True)
    )
    weight = np.where(is_fake, 1 / is_fake.sum(), 1 / (~is_fake).sum())  # both labels weigh the same
    calibration = fit_calibration("logistic", is_fake=is_fake, p_raw=p_raw, weight=weight)
    videos = [videos_of(npz, pool, calibration) for pool in flags.thresholds]
    is_fake, p_fake = (np.concatenate(part) for part in zip(*videos, strict=True))
    low = float(np.quantile(p_fake[is_fake], flags.rate, method="lower"))
    high = float(np.quantile(p_fake[~is_fake], 1 - flags.rate, method="higher"))
    fields = {"calibration": calibration.to_card(), "threshold_low": low, "threshold_high": high}
    print(json.dumps(fields, indent=2))
    for pool, (pool_fake, pool_p) in zip(flags.thresholds, videos, strict=True):
        real, fake = pool_p[~pool_fake], pool_p[pool_fake]
        print(
            f"{pool:>6}: {len(real):,} real, {np.mean(real >= high):.1%} called fake, {np.mean(real < low):.1%} real; "
            f"{len(fake):,} fake, {np.mean(fake < low):.1%} called real, {np.mean(fake >= high):.1%} fake"
        )


if __name__ == "__main__":
    main()
