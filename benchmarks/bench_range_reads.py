"""What a bucket's videos cost in bytes and requests: opened, done as one segment, and done one segment of several.

    python benchmarks/bench_range_reads.py ../shared/data/archive --videos 12 --segment-s 5

Uploads the videos to an S3 server on loopback and counts what the real client asks of it. `segment` is the middle one of
those that the video is cut into. Prints one table; bytes are shares of the file's size.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import click

from dfd_core.config import ExtractConfig
from dfd_core.sources.videos import read_videos
from dfd_core.stages.extract import extract_segment
from dfd_core.stages.plan import WHOLE_VIDEO, segment_id
from dfd_core.stages.probe import plan_video
from tests.s3_server import Request, S3Server, environment_of

DEFAULT = "../shared/data/archive" if os.path.isdir("../shared/data/archive") else "demo/archive"


def cost(requests: list[Request], size: int) -> str:
    """Return requests and bytes read as a share of `size`."""
    num_bytes = sum(request.num_bytes for request in requests if request.kind == "GET")
    return f"{len(requests):>5} {num_bytes / size:>7.2f}"


@click.command()
@click.argument("source", default=DEFAULT)
@click.option("--videos", default=12, help="How many, from the largest down.")
@click.option("--segment-s", default=5.0, help="Seconds of a segment.")
def main(source: str, videos: int, segment_s: float) -> None:
    rows = sorted(read_videos(source).table.to_pylist(), key=lambda row: -row["size_bytes"])[:videos]
    server = S3Server()
    server.filesystem.create_dir("bench")
    print(f"{'':40}{'':>8}  {'opening':>13}  {'one segment':>13}  {'of several':>13}")
    print(f"{'video':40}{'MB':>8}" + "   reqs   bytes" * 3)
    with environment_of(server):
        for row in rows:
            key, content = f"bench/{row['video_id']}", Path(row["uri"]).read_bytes()
            with server.filesystem.open_output_stream(key) as stream:
                stream.write(content)
            request = {"plan_key": "k", "uri": f"s3://{key}"}
            with server.requests() as opening:
                whole = plan_video(request, ExtractConfig())
            cut = plan_video(request, ExtractConfig(segment_s=segment_s))
            facts = {**request, "fps": whole["fps"], "duration_s": whole["duration_s"]}
            with server.requests() as one:
                extract_segment(
                    {**facts, "segment_id": segment_id("k", 0), **WHOLE_VIDEO.as_row()},
                    ExtractConfig(),
                    lambda rgb: [],
                )
            middle = cut["segments"][len(cut["segments"]) // 2]
            with server.requests() as several:
                extract_segment(
                    {**facts, "segment_id": segment_id("k", 1), **middle}, ExtractConfig(), lambda rgb: []
                )
            size = len(content)
            costs = "  ".join(cost(requests, size) for requests in (opening, one, several))
            print(f"{row['video_id'][-38:]:40}{size / 1e6:>8.2f}  {costs}")
    server.close()


if __name__ == "__main__":
    main()
