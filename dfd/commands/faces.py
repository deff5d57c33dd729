"""Cut the faces out of an archive once: SOURCE → pictures of faces in Parquet, to score or to train on later."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import click

from dfd.archive.folder import source_name
from dfd.archive.run import Attempt, run_attempt
from dfd.archive.summary import print_faces_summary, tell_failures, tell_source
from dfd.cluster.runtime import LOG
from dfd.commands.options import archive_options, request_fields
from dfd.commands.shape import command
from dfd.exit_status import exit_with
from dfd_core.answers.face_folder import finish_faces, refuse_own_columns
from dfd_core.answers.png_tree import refuse_tree, write_png_tree
from dfd_core.config import IMAGE_FORMATS, SAMPLINGS, ExtractConfig, Limits, Sampling, as_json
from dfd_core.faces.versions import detector_version
from dfd_core.run import worklist
from dfd_core.run.counts import Counts
from dfd_core.run.output_folder import OutputFolder
from dfd_core.sources.pictures.face_folder import JOB
from dfd_core.sources.videos import read_videos

EXAMPLES = """
dfd NAME manifest.parquet --out faces/
dfd NAME videos/ --out faces/ --margin 0.3 --format jpeg
dfd NAME manifest.csv --out faces/ --png tree/
"""


@dataclass(frozen=True)
class ExtractFacesRequest:
    """One call of the job, checked as far as can be without opening anything.

    Attributes:
        sampling: `stride`, `interval:S`, `uniform:N` or `keyframes`; None for `stride`.
        margin: Fraction of a box's sides that is added on each side.
        image_format: `png`, which loses nothing, or `jpeg`.
        png: A local folder for the tree of PNG files; None for no tree.
        max_failed: Share of failed videos, 0 to 1, above which the exit status is 1.
        retry_kinds: The kinds of error whose videos are tried again; empty for none.
        stall_s: Seconds in which nothing finishes after which the log says what the run waits for.
        repair: Mend a damaged log before anything else.
        hash: Read every video whole for its SHA-256.
        detect_max_side_px: Longer side of the frame that the detector sees, pixels; None for its own.
        detector: The face detector; None for `dlib`, or for whichever made a folder of faces.
    """

    source: str
    out: str
    sampling: str | None = None
    margin: float = 0.0
    image_format: str = "png"
    segment_s: float = 60.0
    png: str | None = None
    limits: Limits = Limits()  # noqa: RUF009 - frozen
    max_failed: float = 0.5
    retry_kinds: frozenset[str] = frozenset()
    detect_max_side_px: int | None = None
    detector: str | None = None
    overwrite: bool = False
    repair: bool = False
    hash: bool = False
    profile: bool = False
    stall_s: float = 300.0
    allow_http: bool = False
    address: str | None = None
    verbose: bool = False

    def extract_config(self) -> ExtractConfig:
        """Return what decides which pictures leave a video."""
        return ExtractConfig(
            sampling=Sampling.parse(self.sampling or "stride"),
            segment_s=self.segment_s,
            margin=self.margin,
            limits=self.limits,
            image_format=self.image_format,
            detect_max_side_px=self.detect_max_side_px,
            detector=self.detector or "dlib",
        )

    def configuration(self) -> dict[str, Any]:
        """Return what two runs into the same folder must have in common."""
        config = self.extract_config()
        extraction = {**as_json(config), "detector_version": detector_version(config.detector)}
        del extraction["crop_px"]
        return {"job": JOB, "source": source_name(self.source), **extraction}


def run(request: ExtractFacesRequest) -> int:
    """Run the job and return its exit status.

    Raises:
        RequestError: The request is unusable.
    """
    config = request.extract_config()
    source = read_videos(request.source, allow_http=request.allow_http)
    refuse_own_columns(source.table)
    if request.png is not None:
        refuse_tree(request.png)
    tell_source(source, request.source, f"pictures as {config.image_format}")

    def work(attempt: Attempt) -> Counts:
        attempt.plan(source, config)
        return _extract(attempt, config, request.png)

    counts, status = run_attempt(request, request.configuration(), work, num_videos=source.table.num_rows)
    print_faces_summary(OutputFolder.at(request.out), counts)
    if status:
        tell_failures(counts, request.max_failed)
    return status


def _extract(attempt: Attempt, config: ExtractConfig, png: str | None) -> Counts:
    out = attempt.out
    work = worklist.list_segments(out, num_cpus=attempt.cluster.num_cpus)

    def build(*, num_cpus: int, tally: Any, profile: Any) -> Any:
        from dfd.archive import stages

        return stages.build_pictures(out, config, work=work, tally=tally, profile=profile)

    attempt.run_segments(work, build)
    counts = attempt.record.tables(finish_faces(out))
    if png is not None:
        LOG.info("%s PNG files are in %s", f"{write_png_tree(out, png):,}", png)
    return counts


@command(EXAMPLES)
@click.argument("source")
@click.option(
    "--out", required=True, help="The output folder; the same command again does only what is missing."
)
@click.option("--sampling", help=f"{SAMPLINGS}.  [default: stride]")
@click.option("--margin", type=float, default=0.0, show_default=True, help="Fraction of a box's side that is added on each side; must be the margin of the model that scores the pictures.")  # fmt: skip
@click.option("--format", "image_format", type=click.Choice(IMAGE_FORMATS), default="png", show_default=True, help="png loses nothing; jpeg is of quality 95.")  # fmt: skip
@click.option("--segment-s", default=60.0, show_default=True, help="Longest piece of a video that one worker takes, s.")  # fmt: skip
@click.option("--png", metavar="DIR", help="Write real/ID_FRAME.png, fake/... and unlabelled/... to this local folder as well.")  # fmt: skip
@archive_options
def main(**flags: Any) -> None:
    """Cut the faces out of the videos of SOURCE: a video, a folder, a glob, or a manifest (.csv, .parquet, .jsonl).

    Writes faces/ (one row for every face, with its picture in its own size), videos/ (one row for every video, whatever
    happened) and run.json. `dfd score` and `dfd finetune` take the folder in place of the videos.

    Exit status: 0 every video has an outcome; 1 more than --max-failed of them failed; 2 the request is unusable;
    130 interrupted, and the same command resumes.
    """
    exit_with(lambda: run(ExtractFacesRequest(**request_fields(flags))), verbose=flags["verbose"])
