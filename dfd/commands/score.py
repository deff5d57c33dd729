"""Score an archive: SOURCE, videos or pictures of faces → videos/, faces/ and run.json."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import click

from dfd.archive.folder import source_name
from dfd.archive.scoring import run
from dfd.cluster.pools import Pools, pool_options, take_pools
from dfd.commands.options import archive_options, request_fields, take_limits
from dfd.commands.shape import command
from dfd.exit_status import exit_with
from dfd_core.config import AGGREGATIONS, PRECISIONS, SAMPLINGS, Aggregation, ExtractConfig, Limits, Sampling
from dfd_core.model.card import ModelCard
from dfd_core.model.source import DEFAULT_MODEL
from dfd_core.sources.source import Source, Wanted

EXAMPLES = """
dfd NAME clip.mp4
dfd NAME videos/ --out scores/
dfd NAME videos/ --model bundle/ --out scores/
dfd NAME 'videos/**/*.mp4' --model bundle/ --out scores/ --sampling interval:0.5
dfd NAME manifest.csv --model untrained:mobilenet_v3_small --out smoke/
dfd NAME videos/ --model bundle/ --out scores/ --retry-failed=timeout,crashed
dfd NAME videos/ --model bundle/ --out scores/ --estimate
dfd NAME faces/ --model bundle/ --out scores/
ray job submit --address http://127.0.0.1:8265 --working-dir . -- \\
    python jobs/score.py s3://bucket/archive --model s3://bucket/bundle --out s3://bucket/scores
"""


@dataclass(frozen=True, slots=True)
class ScoreRequest:
    """One call of the job, checked as far as can be without opening anything.

    Attributes:
        max_failed: Share of failed videos, 0 to 1, above which the exit status is 1.
        retry_kinds: The kinds of error whose videos are tried again; empty for none.
        stall_s: Seconds in which nothing finishes after which the log says what the run waits for.
        repair: Mend a damaged log before anything else.
        hash: Read every video whole for its SHA-256.
        detect_max_side_px: Longer side of the frame that the detector sees, pixels; None for its own.
        detector: The face detector; None for `dlib`, or for whichever made a folder of faces.
    """

    source: str
    model: str
    out: str
    sampling: str | None = None
    segment_s: float = 600.0
    precision: str = "auto"
    raw: bool = False
    aggregation: Aggregation = Aggregation()  # noqa: RUF009 - frozen
    limits: Limits = Limits()  # noqa: RUF009 - frozen
    max_failed: float = 0.5
    retry_kinds: frozenset[str] = frozenset()
    detect_max_side_px: int | None = None
    keep_faces: int = 6
    explain: bool = False
    detector: str | None = None
    overwrite: bool = False
    repair: bool = False
    hash: bool = False
    profile: bool = False
    stall_s: float = 300.0
    estimate: bool = False
    allow_http: bool = False
    address: str | None = None
    verbose: bool = False
    pools: Pools = Pools()  # noqa: RUF009 - frozen

    def extract_config(self, card: ModelCard) -> ExtractConfig:
        """Return what decides which crops leave a video; the sampling is the card's unless given."""
        return ExtractConfig(
            sampling=Sampling.parse(self.sampling or card.sampling),
            segment_s=self.segment_s,
            crop_px=card.input_size,
            margin=card.margin,
            limits=self.limits,
            detect_max_side_px=self.detect_max_side_px,
            pictures=self.keep_faces > 0,
            detector=self.detector or "dlib",
        )

    def wanted(self, card: ModelCard) -> Wanted:
        """Return how the faces of the source are to be made."""
        sampling = Sampling.parse(self.sampling) if self.sampling else None
        return Wanted(card.margin, sampling, self.detect_max_side_px, self.detector)

    def configuration(self, card: ModelCard, source: Source) -> dict[str, Any]:
        """Return what two runs into the same folder must have in common."""
        return {
            "source": source_name(self.source),
            "source_kind": source.kind,
            "model_id": card.model_id,
            "precision": self.precision,
            **({"raw": True} if self.raw else {}),
            **({"calibration": card.calibration} if card.calibration else {}),
            **card.meaning,
            **source.extraction(self.extract_config(card)),
        }


@command(EXAMPLES)
@click.argument("source")
@click.option(
    "--model",
    default=DEFAULT_MODEL,
    show_default=True,
    help="default for the detector that ships, a bundle folder, a .keras file, or untrained:BACKBONE for a smoke run.",
)
@click.option(
    "--out",
    help="The output folder; the same command again does only what is missing.  [default: none, for one video]",
)
@click.option("--sampling", help=f"{SAMPLINGS}.  [default: the bundle's, else stride]")
@click.option(
    "--segment-s", default=600.0, show_default=True, help="Longest piece of a video that one worker takes, s."
)
@click.option(
    "--aggregation",
    default="worst-track",
    show_default=True,
    help=f"How a video's faces become one number: {AGGREGATIONS}.",
)
@click.option("--precision", type=click.Choice(PRECISIONS), default="auto", show_default=True, help="What the model computes in; auto: float16 on a GPU, bfloat16 on a CPU with instructions for it, else float32.")  # fmt: skip
@click.option("--raw", is_flag=True, help="p_fake as the model gives it, without the bundle's calibration.")
@click.option("--keep-faces", type=click.IntRange(0, 100), default=6, show_default=True, metavar="K", help="Pictures of faces that a video keeps in pictures/, the most and the least suspicious of each track; 0 for none. Each takes about 15 kB.")  # fmt: skip
@click.option("--explain", is_flag=True, help="Add to each kept picture which parts move the score; each costs as much as 49 faces. It is no proof.")  # fmt: skip
@pool_options
@click.option("--estimate", is_flag=True, help="Open the videos, time a sample of their segments, and only say what the run will cost. Not for pictures.")  # fmt: skip
@archive_options
def main(**flags: Any) -> None:
    """Score the videos of SOURCE: a video, a folder, a glob, or a manifest (.csv, .parquet, .jsonl).

    SOURCE may also be pictures of faces, of which no video is opened: the output folder of `dfd faces`, or
    Parquet files with one picture a row.

    With --out OUT it writes videos/ (one row for every video, whatever happened), faces/ (one row for every face) and run.json.
    Without, SOURCE is one video, which is scored without Ray: prints its row and its most suspicious frames.

    Exit status: 0 every video has an outcome; 1 more than --max-failed of them failed; 2 the request is unusable;
    130 interrupted, and the same command resumes.
    """
    exit_with(lambda: _status(flags), verbose=flags["verbose"])


def _status(flags: dict[str, Any]) -> int:
    if flags["out"] is not None:
        return run(_request(flags))
    from dfd.one_video import score_one

    options = ("model", "sampling", "precision", "raw", "detect_max_side_px", "detector", "allow_http")
    aggregation, limits = Aggregation.parse(flags["aggregation"]), take_limits(dict(flags))
    chosen = {name: flags[name] for name in options}
    return score_one(flags["source"], flags, aggregation=aggregation, limits=limits, **chosen)


def _request(flags: dict[str, Any]) -> ScoreRequest:
    pools = take_pools(flags)
    fields = request_fields(flags)
    fields["aggregation"] = Aggregation.parse(fields["aggregation"])
    return ScoreRequest(**fields, pools=pools)
