"""Whether an output folder, its inputs and its model are what the run has recorded."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs

from dfd_core.errors import OutputError, RequestError
from dfd_core.run.hashes import Hashes, output_files, sha256_of
from dfd_core.run.output_folder import OutputFolder
from dfd_core.storage.address import Address
from dfd_core.storage.reasons import reason_of
from dfd_core.storage.tables import dataset, read_table
from dfd_core.storage.uri import is_remote, join_uri, local_path, uri_relative_to


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is not as recorded.

    Attributes:
        part: `output`, `input`, `model` or `score`.
        name: A path in the output folder, a `video_id`, or the model's file.
        problem: `missing`, `changed`, `unlisted` or `unreadable`.
        recorded: What the run has recorded.
        found: What is there.
    """

    part: str
    name: str
    problem: str
    recorded: str = ""
    found: str = ""

    def as_json(self) -> dict[str, str]:
        """Return the fields by name."""
        return asdict(self)


def verify_outputs(out: OutputFolder, hashes: Hashes) -> Iterator[Difference]:
    """Yield the files of `out` that are missing or changed, and those of its tables that nobody has listed."""
    for name, recorded in hashes.files.items():
        yield from _compare_hash("output", name, out.root.below(name), recorded)
    for name in output_files(out):
        if name not in hashes.files:
            yield Difference("output", name, "unlisted")


def verify_model(address: Address, hashes: Hashes) -> Iterator[Difference]:
    """Yield a difference if the model at `address`, a bundle or a `.keras` file, is not the one that scored."""
    recorded = hashes.used.get("model.keras")
    if recorded is not None:
        file = address if address.name.endswith(".keras") else address / "model.keras"
        yield from _compare_hash("model", str(file), file, recorded)


def verify_inputs(out: OutputFolder, root: str | None, source: str | None) -> Iterator[Difference]:
    """Yield the inputs that are missing, or differ from what was recorded when the run read them.

    Their hash decides where one was recorded; otherwise size and time of modification do.

    Args:
        out: The output folder.
        root: The source of the run, as `run.json` names it.
        source: The folder in which the inputs are now; None for where they were.

    Raises:
        OutputError: The tables cannot be read.
    """
    hashes = _recorded_hashes(out)
    columns = ["video_id", "uri", "size_bytes", "modified_ns"]
    for row in read_table(out.manifest, columns).to_pylist():
        yield from _verify_input(row, input_address(row["uri"], root, source), hashes.get(row["video_id"]))


def _recorded_hashes(out: OutputFolder) -> dict[str, str]:
    """Return the SHA-256 of each input that has one, by `video_id`."""
    schema = pa.schema([("video_id", pa.string()), ("sha256", pa.string())])
    try:
        rows = dataset(out.videos, schema).to_table()
    except (OSError, pa.ArrowException):  # said of the output
        return {}
    found = zip(*(rows.column(name).to_pylist() for name in schema.names), strict=True)
    return {video_id: sha256 for video_id, sha256 in found if sha256}


def input_address(uri: str, root: str | None, source: str | None) -> str:
    """Return where an input of the run's source `root` is now: below `source`, or at its `uri` if that is None."""
    if source is None:
        return uri
    inside = uri_relative_to(uri if is_remote(uri) else local_path(uri), root or "")
    return join_uri(source, inside if inside != uri and not os.path.isabs(inside) else uri.rpartition("/")[2])


def _verify_input(row: Mapping[str, Any], uri: str, sha256: str | None) -> Iterator[Difference]:
    name = row["video_id"]
    try:
        address = Address.parse(uri)
        info = address.fs.get_file_info(address.path)
    except (OSError, RequestError) as error:
        yield Difference("input", name, "unreadable", found=reason_of(error))
        return
    if info.type == pafs.FileType.NotFound:
        if row["size_bytes"] is not None:  # else it was missing then too
            yield Difference("input", name, "missing")
    elif sha256 is not None:
        yield from _compare_hash("input", name, address, sha256)
    else:
        for what, recorded, found in (
            ("bytes", row["size_bytes"], info.size),
            ("ns since 1970", row["modified_ns"], info.mtime_ns),
        ):
            if recorded is not None and recorded != found:
                yield Difference("input", name, "changed", f"{recorded} {what}", f"{found} {what}")
                return


def _compare_hash(part: str, name: str, address: Address, recorded: str) -> Iterator[Difference]:
    try:
        found = sha256_of(address)
    except (FileNotFoundError, NotADirectoryError):
        yield Difference(part, name, "missing", recorded)
    except OSError as error:
        yield Difference(part, name, "unreadable", recorded, reason_of(error))
    else:
        if found != recorded:
            yield Difference(part, name, "changed", recorded, found)


def sample_videos(out: OutputFolder, count: int) -> list[dict[str, Any]]:
    """Return `count` scored videos, spread over the table, as `video_id`, `uri` and `p_fake`.

    Raises:
        OutputError: The table cannot be read.
    """
    schema = pa.schema([("video_id", pa.string()), ("uri", pa.string()), ("p_fake", pa.float32())])
    try:
        rows: list[dict[str, Any]] = dataset(out.videos, schema).to_table().to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise OutputError(f"{out.videos} cannot be read: {reason_of(error)}") from error
    scored = [row for row in rows if row["p_fake"] is not None]
    count = min(count, len(scored))
    return [scored[place * len(scored) // count] for place in range(count)]


def compare_scores(
    video: Mapping[str, Any], p_fake: float | None, faces: Sequence[tuple[float, float]], *, bound: float
) -> Iterator[Difference]:
    """Yield a difference if scores made again are further from the recorded ones than `bound`.

    Args:
        video: The recorded `video_id` and `p_fake`.
        p_fake: The video's new score; None if it has none.
        faces: Recorded and new score of each face, in the same order.
        bound: The largest difference that is none, 0 to 1.
    """
    furthest = max((abs(old - new) for old, new in faces), default=0.0)
    own = abs(video["p_fake"] - p_fake) if p_fake is not None else math.inf
    if max(furthest, own) > bound:
        yield Difference(
            "score",
            video["video_id"],
            "changed",
            f"p_fake {video['p_fake']:.6f}",
            "no score" if p_fake is None else f"p_fake {p_fake:.6f}, furthest face {furthest:.6f} away",
        )
