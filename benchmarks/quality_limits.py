"""Where the default detector stops being reliable: error rates against each quality measure.

Looks at what it was not trained on: the clips of DATA/unseen and DATA/wild, the crops of DATA/faces that the rule of the data's README
keeps apart, and copies of all of them by libx264. Clips of `wild` count as real. Prints, for each measure, the share of reals
that would be called fake and of fakes that would be called real without any limit; then the verdicts with the card's limits. WORK keeps the
copies and what was measured, so that a second run only prints.

  python -m benchmarks.quality_limits ../shared/data --work /tmp/quality
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import cv2
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.reencode import copy_of, crops_at
from dfd_core.answers.verdicts import VerdictRule, with_verdicts
from dfd_core.config import ExtractConfig, Sampling
from dfd_core.faces.detect import Face, FrontalFaceDetector
from dfd_core.faces.quality import quality_of, quality_of_picture
from dfd_core.model.source import ModelSource, resolve_model
from dfd_core.schemas import face_crops, to_table
from dfd_core.stages.extract import extract_segment
from dfd_core.stages.plan import WHOLE_VIDEO
from dfd_core.stages.probe import plan_video
from dfd_core.stages.scoring import score_segments

CRFS = (23, 28, 32, 36, 40)
MEASURES = ("side_px", "sharpness", "brightness", "blockiness", "bits_per_pixel", "num_scored_frames")
_FACELESS = ("8k24fps_300ms", "bigbuckbunny", "bikes", "sun", "h265_bframes")
_UNSEEN_PER_MILLE = 120


@dataclass(frozen=True)
class Clip:
    """One clip to look at."""

    name: str
    path: Path
    label: str
    pool: str


def clips_of(data: Path) -> Iterator[Clip]:
    """Yield the clips that the detector was not trained on."""
    unseen = data / "unseen" / "faceforensics"
    for path in sorted(unseen.rglob("*.mp4")):
        name = path.relative_to(unseen).with_suffix("").as_posix()
        pool = "unseen c40" if "/c40/" in name else "unseen c23"
        yield Clip(name, path, "real" if name.startswith("original") else "fake", pool)
    for path in sorted((data / "wild").glob("*.mp4")):
        if path.stem not in _FACELESS:
            yield Clip(path.stem, path, "real", "wild")


def measured(path: Path, predict: Any, detect: Any, config: ExtractConfig) -> dict[str, Any] | None:
    """Return the score and the quality of a video, as `videos/` would hold them; None if it has no face."""
    uri = str(path)
    plan = plan_video({"plan_key": "k", "uri": uri}, config)
    segment = {"segment_id": "s", "plan_key": "k", "uri": uri, **WHOLE_VIDEO.as_row()}
    row = extract_segment({**segment, "fps": plan["fps"], "duration_s": plan["duration_s"]}, config, detect)
    scored = score_segments(to_table([row], face_crops(config.crop_px)), predict, crop_px=config.crop_px)
    faces = pd.DataFrame(scored.column("faces").to_pylist()[0])
    if faces.empty:
        return None
    frames = faces.groupby("frame_index").p_fake.max()
    pixels = plan["width"] * plan["height"] * plan["fps"] * plan["duration_s"]
    medians = {name: float(faces[name].astype(float).median()) for name in MEASURES if name in faces}
    return {
        "p_fake": float(frames.mean()),
        "num_scored_frames": len(frames),
        "bits_per_pixel": 8 * path.stat().st_size / pixels,
        **medians,
    }


def _key(source: ModelSource) -> str:
    """Return what names the scores of a model: its file and its calibration."""
    text = f"{source.card.sha256} {source.card.calibration}"
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def measured_clips(flags: argparse.Namespace, source: ModelSource, predict: Any) -> pd.DataFrame:
    """Return a row for each clip and copy; what WORK holds already is not done again."""
    log = flags.work / f"clips-{_key(source)}.jsonl"
    rows = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    done = {(row["name"], row["crf"]) for row in rows}
    sampling = Sampling.parse(flags.sampling)
    config = ExtractConfig(sampling=sampling, crop_px=source.card.input_size, margin=source.card.margin)
    detect = FrontalFaceDetector()
    clips = list(clips_of(flags.data))
    wanted = [(clip, crf) for crf in (None, *flags.crfs) for clip in clips]
    with log.open("a") as file:
        for clip, crf in wanted:
            if (clip.name, crf) in done:
                continue
            path = clip.path if crf is None else copy_of(clip.path, flags.work / Path(clip.name).parent, crf)
            found = measured(path, predict, detect, config)
            row = {
                "name": clip.name,
                "pool": clip.pool,
                "label": clip.label,
                "crf": crf,
                **(found or {"p_fake": None}),
            }
            file.write(json.dumps(row) + "\n")
            file.flush()
            rows.append(row)
            print(f"\r{len(rows)} of {len(wanted)}", end="", file=sys.stderr)
    return pd.DataFrame(rows).dropna(subset="p_fake")


def measured_crops(flags: argparse.Namespace, source: ModelSource, predict: Any) -> pd.DataFrame:
    """Return a row for each unseen crop, as it is and at each CRF, in its own size and in half of it."""
    kept = flags.work / f"crops-{_key(source)}.parquet"
    if kept.exists():
        return pd.read_parquet(kept)
    table = pq.read_table(flags.data / "faces")
    groups = [
        int(hashlib.sha1(f"{group}.mp4".encode()).hexdigest(), 16) % 1000
        for group in table["group"].to_pylist()
    ]
    table = table.filter(pa.array([number < _UNSEEN_PER_MILLE for number in groups]))
    pictures = [
        cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR_RGB)
        for jpeg in table["jpeg"].to_pylist()
    ]
    parts = []
    for scale in (1.0, 0.5):
        side = round(224 * scale)
        sized = [cv2.resize(one, (side, side), interpolation=cv2.INTER_AREA) for one in pictures]
        for crf in (None, *flags.crfs):
            faces = sized if crf is None else crops_at(sized, crf)
            inputs = np.stack([cv2.resize(one, (source.card.input_size,) * 2) for one in faces])
            whole = Face(0, 0, side, side, 0.0)
            quality = [quality_of_picture(one) if crf is None else quality_of(one, whole) for one in faces]
            rows = pd.DataFrame([one.as_row() for one in quality])
            pool = f"crops {side} px"
            parts.append(
                rows.assign(p_fake=predict(inputs), crf=crf, pool=pool, label=table["label"].to_pylist())
            )
    rows = pd.concat(parts, ignore_index=True)
    rows.to_parquet(kept)
    return rows


def tell_errors(rows: pd.DataFrame, rule: VerdictRule, measure: str) -> None:
    """Print both error rates without limits, by a measure."""
    known = rows.dropna(subset=measure)
    if known[measure].nunique() < 3:
        return
    parts = pd.qcut(known[measure], 8, duplicates="drop")
    print(f"\n{measure:>24}  reals  called fake   fakes  called real")
    for interval, part in known.groupby(parts, observed=True):
        real, fake = part[part.label == "real"].p_fake, part[part.label == "fake"].p_fake
        print(
            f"{interval.left:>11.4g} {interval.right:>12.4g}  {len(real):>5}  {_share(real >= rule.threshold_high)}"
            f"  {len(fake):>6}  {_share(fake < rule.threshold_low)}"
        )


def _share(holds: pd.Series) -> str:
    return f"{holds.mean():>10.1%}" if len(holds) else f"{'–':>10}"


def tell_verdicts(rows: pd.DataFrame, rule: VerdictRule) -> None:
    """Print the verdicts by pool, CRF and label."""
    table = pa.Table.from_pandas(
        rows[["p_fake", *(name for name in MEASURES if name in rows)]].astype(np.float32)
    )
    rows = rows.assign(
        verdict=with_verdicts(table, rule)["verdict"].to_pylist(), crf=rows.crf.fillna(0).astype(int)
    )
    rows["crf"] = rows.crf.map(lambda crf: f"CRF {crf}" if crf else "as it is")
    counts = rows.groupby(["pool", "crf", "label"]).verdict.value_counts().unstack(fill_value=0)
    print("\n" + counts.reindex(columns=["real", "uncertain", "fake"], fill_value=0).to_string())
    copies = rows[(rows.label == "real") & (rows.crf != "as it is")]
    print(f"copies of reals called fake: {(copies.verdict == 'fake').sum():,} of {len(copies):,}")
    for label in ("real", "fake"):
        of = rows[rows.label == label].verdict.value_counts(normalize=True)
        print(
            f"{label}: "
            + ", ".join(f"{name} {of.get(name, 0):.1%}" for name in ("real", "uncertain", "fake"))
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument(
        "--work", type=Path, required=True, help="A folder for the copies and the measurements."
    )
    parser.add_argument("--model", default="default")
    parser.add_argument("--crfs", type=int, nargs="+", default=CRFS)
    parser.add_argument("--sampling", default="stride", help="Of the clips.")
    parser.add_argument("--threads", type=int, default=2)
    flags = parser.parse_args()
    from dfd_core.model.predictor import load_predictor

    flags.work.mkdir(parents=True, exist_ok=True)
    source = resolve_model(flags.model)
    predict = load_predictor(source, num_threads=flags.threads)
    rule = VerdictRule.of_card(source.card)
    print(f"{source.card.model_id}: {rule}")
    for name, measure_all in (("crops, one a video", measured_crops), ("clips", measured_clips)):
        rows = measure_all(flags, source, predict)
        print(f"\n== {name}: {len(rows):,} with a face ==")
        for measure in MEASURES:
            if measure in rows:
                tell_errors(rows, rule, measure)
        tell_verdicts(rows, rule)


if __name__ == "__main__":
    main()
