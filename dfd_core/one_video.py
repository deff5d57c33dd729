"""Score one video in this process, without an output folder and without Ray."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from dfd_core.answers.aggregate import finish
from dfd_core.answers.verdicts import VerdictRule
from dfd_core.config import Aggregation, ExtractConfig, Limits, Sampling
from dfd_core.errors import RequestError
from dfd_core.model.fetch import local_model
from dfd_core.model.source import DEFAULT_MODEL, ModelSource, resolve_model
from dfd_core.run import worklist
from dfd_core.run.output_folder import OutputFolder
from dfd_core.schemas import SEGMENT_RESULT, VIDEO_PLAN, face_crops, to_table
from dfd_core.sources.videos import read_videos
from dfd_core.stages.sandbox import Sandbox
from dfd_core.stages.scoring import score_segments
from dfd_core.storage.tables import read_table
from dfd_core.storage.text import as_text

if TYPE_CHECKING:
    from dfd_core.model.predictor import Predictor

_LIMITS = Limits()
_AGGREGATION = Aggregation()


@dataclass(frozen=True, slots=True)
class VideoScore:
    """What is known of one video.

    Attributes:
        video: Its row of `videos/`, by column name.
        faces: Its rows of `faces/` (`schemas.FACES`), in the order of the frames.
    """

    video: Mapping[str, Any]
    faces: pa.Table

    @property
    def status(self) -> str:
        """`scored`, `partial`, `no_face` or `failed`."""
        status: str = self.video["status"]
        return status

    @property
    def p_fake(self) -> float | None:
        """How likely the video is fake, in [0, 1]; None unless `status` is `scored` or `partial`."""
        p_fake: float | None = self.video["p_fake"]
        return p_fake

    @property
    def verdict(self) -> str | None:
        """What `p_fake` means by the model's thresholds; None without a `p_fake`."""
        verdict: str | None = self.video["verdict"]
        return verdict

    def most_suspicious(self, count: int = 3) -> list[dict[str, Any]]:
        """Return the faces with the highest `p_fake`, at most one of each frame, highest first.

        Args:
            count: The most faces to return.
        """
        highest = pc.sort_indices(
            self.faces, sort_keys=[("p_fake", "descending"), ("frame_index", "ascending")]
        )
        found: dict[int, dict[str, Any]] = {}
        for face in self.faces.take(highest).to_pylist():
            found.setdefault(face["frame_index"], face)
            if len(found) == count:
                break
        return list(found.values())


def score_video(
    source: str | os.PathLike[str],
    *,
    model: str | os.PathLike[str] = DEFAULT_MODEL,
    sampling: str | None = None,
    aggregation: Aggregation = _AGGREGATION,
    precision: str = "auto",
    raw: bool = False,
    detect_max_side_px: int | None = None,
    detector: str | None = None,
    limits: Limits = _LIMITS,
    allow_http: bool = False,
    cache_dir: str | os.PathLike[str] | None = None,
) -> VideoScore:
    """Return how likely one video is fake, and its faces, with the numbers of `dfd score`.

    The video is decoded in a child process with limits, as in a run over an archive: a broken one is a `failed` result
    with an `error_kind`, not an exception.

    Args:
        source: The video: a path or a URI.
        model: What `--model` takes: `default`, a bundle folder, a `.keras` file or `untrained:BACKBONE`.
        sampling: `stride`, `interval:S`, `uniform:N` or `keyframes`; None for the model's own.
        aggregation: How the frames become one number.
        precision: What the model computes in; `auto` for the fastest that the device has.
        raw: Leave out the model's calibration.
        detect_max_side_px: Longer side of the frame that the face detector sees, pixels; None for its own.
        detector: The face detector, `dlib` or `fast`; None for `dlib`.
        limits: What the video may cost.
        allow_http: Take an http or https address.
        cache_dir: Where finished graphs of models are kept, which makes the next start faster; None to keep none.

    Raises:
        RequestError: There is no such video, it is more than one, or the model or an option cannot be used.

    Example:
        >>> score = score_video(clip)
        >>> score.status, score.verdict in ("real", "fake", "uncertain"), 0 <= score.p_fake <= 1
        ('scored', True, True)
        >>> [face["frame_index"] for face in score.most_suspicious(1)]
        [0]
    """
    found = resolve_model(local_model(os.fspath(model)), raw=raw)
    config = ExtractConfig(
        sampling=Sampling.parse(sampling or found.card.sampling),
        crop_px=found.card.input_size,
        margin=found.card.margin,
        limits=limits,
        detect_max_side_px=detect_max_side_px,
        detector=detector or "dlib",
    )
    videos = _one(os.fspath(source), allow_http=allow_http)
    with (
        tempfile.TemporaryDirectory(prefix="dfd-video-") as folder,
        closing(Sandbox(config)) as sandbox,
        ThreadPoolExecutor(1, "model") as loader,
    ):
        out = OutputFolder.at(folder)
        worklist.write_manifest(out, videos)
        loading = loader.submit(_load, found, precision, cache_dir)  # while the child decodes
        plan = sandbox.plan(worklist.unplanned(out).to_pylist()[0])
        out.plan_log.append(to_table([plan], VIDEO_PLAN))
        worklist.list_segments(out, num_cpus=1)
        results = [SEGMENT_RESULT.empty_table(), *_results(out, sandbox, loading, crop_px=config.crop_px)]
        out.segment_log.append(pa.concat_tables(results))
        card = found.card
        finish(
            out,
            aggregation=aggregation,
            threshold=card.threshold,
            model_id=card.model_id,
            rule=VerdictRule.of_card(card),
        )
        return VideoScore(read_table(out.videos).to_pylist()[0], read_table(out.faces))


def _one(source: str, *, allow_http: bool) -> pa.Table:
    videos = read_videos(source, allow_http=allow_http).table
    if videos.num_rows != 1:
        raise RequestError(f"Expected one video. Received: {videos.num_rows:,} in {as_text(source)}")
    return videos


def _load(model: ModelSource, precision: str, cache_dir: str | os.PathLike[str] | None) -> Predictor:
    from dfd_core.model.predictor import load_predictor

    return load_predictor(model, precision=precision, cache_dir=cache_dir)


def _results(
    out: OutputFolder, sandbox: Sandbox, loading: Future[Predictor], *, crop_px: int
) -> Iterator[pa.Table]:
    """Yield the result (SEGMENT_RESULT) of each segment; the crops of one segment are held at a time."""
    for segment in read_table(out.segment_list).to_pylist():
        crops = to_table([sandbox.extract(segment)], face_crops(crop_px))
        yield score_segments(crops, loading.result(), crop_px=crop_px)
