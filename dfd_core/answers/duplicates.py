"""Copies of one clip in an archive, by the perceptual hashes of its sampled frames. No video is opened.

Two videos are copies if, for half of the frames of the one with fewer frames, the other has a frame whose hash differs in at most 6 of 64 bits. One
video may be turned or mirrored. Two videos are compared if they share a hash, or if one hash of each differs in at most 3 bits. DuckDB finds such
hashes by joining on words of 16 bits: of four words, one must then be equal. Copies of copies are one group.
"""

from __future__ import annotations

import duckdb
import numpy as np
import pyarrow as pa
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from dfd_core.answers.log_views import connect
from dfd_core.errors import OutputError
from dfd_core.run.output_folder import OutputFolder
from dfd_core.schemas import DUPLICATES, SEGMENT_RESULT, VIDEOS
from dfd_core.storage.tables import dataset

_NEAR_BITS, _SAME_BITS = 3, 6
_SAME_SHARE = 0.5
_WORDS, _WORD_BITS = 4, 16
_SIDE = 8
_READ = pa.schema(
    [SEGMENT_RESULT.field(name) for name in ("segment_id", "error_kind", "extracted_at", "frame_hashes")]
)
_VIDEOS = pa.schema([VIDEOS.field(name) for name in ("video_id", "uri", "status", "p_fake", "verdict")])


def find_duplicates(out: OutputFolder) -> pa.Table:
    """Return the groups of copies among the videos of a finished run: DUPLICATES, groups whose verdicts disagree first.

    Raises:
        OutputError: The run is incomplete, or an older version made it, which kept no hashes.
    """
    with connect(out, _READ) as db:
        _read_frames(db)
        pairs = _copies(db).fetchnumpy()
        group = _groups(pairs["one"], pairs["other"])
        db.register("grouped", pa.table({"manifest_row": list(group), "component": list(group.values())}))
        db.register("videos", dataset(out.videos, _VIDEOS))
        return _table(db)


def _read_frames(db: duckdb.DuckDBPyConnection) -> None:
    """Make the table `frames`: the hashes of each video, each once, without those of flat pictures."""
    known, done = db.sql(
        "SELECT count(frame_hashes), count(*) FROM results SEMI JOIN listed USING (segment_id) WHERE error_kind IS NULL"
    ).fetchall()[0]
    if done and not known:
        raise OutputError(
            "The run kept no hashes of its frames: an older version made it, or its source was pictures"
        )
    db.execute(
        """
        CREATE TEMP TABLE frames AS
        SELECT DISTINCT manifest_row AS video, hash
        FROM (SELECT manifest_row, unnest(frame_hashes) AS hash
              FROM results JOIN listed USING (segment_id) JOIN manifest ON listed.plan_key = manifest.plan_key)
        WHERE hash <> 0
        """
    )


def _copies(db: duckdb.DuckDBPyConnection) -> duckdb.DuckDBPyRelation:
    """Return the pairs of videos that are copies: `one` and `other`, rows of the manifest."""
    for number, definition in enumerate(_turns("hash")):
        db.execute(f"CREATE TEMP MACRO turn{number}(hash) AS {definition}")
    turned = ", ".join(f"turn{number}(hash)" for number in range(_SIDE))
    words = ", ".join(f"(hash >> {_WORD_BITS * n}) & {2**_WORD_BITS - 1}" for n in range(_WORDS))
    db.execute(
        f"""
        CREATE TEMP TABLE kept_hashes AS SELECT hash, min(video) AS video FROM frames GROUP BY hash;
        CREATE TEMP VIEW words AS
            SELECT video, hash, generate_subscripts(w, 1) AS place, unnest(w) AS word
            FROM (SELECT video, hash, [{words}] AS w FROM kept_hashes);
        CREATE TEMP VIEW turned_words AS
            SELECT video, hash, generate_subscripts(w, 1) AS place, unnest(w) AS word
            FROM (SELECT video, hash, [{words}] AS w FROM (SELECT video, unnest([{turned}]) AS hash FROM kept_hashes));
        CREATE TEMP TABLE candidates AS
            SELECT kept_hashes.video AS one, frames.video AS other
            FROM frames JOIN kept_hashes USING (hash) WHERE kept_hashes.video < frames.video
            UNION
            SELECT least(a.video, b.video), greatest(a.video, b.video)
            FROM turned_words AS a JOIN words AS b USING (place, word)
            WHERE a.video <> b.video AND bit_count(xor(a.hash, b.hash)) <= {_NEAR_BITS};
        CREATE TEMP TABLE sizes AS SELECT video, count(*) AS num FROM frames GROUP BY video;
        """
    )
    return db.sql(
        f"""
        SELECT DISTINCT one, other FROM (
            SELECT one, other, turn, count(DISTINCT a) AS num_one, count(DISTINCT b) AS num_other
            FROM (SELECT one, other, f.hash AS a, g.hash AS b, generate_subscripts(t, 1) AS turn, unnest(t) AS turned
                  FROM (SELECT one, other, hash, [{turned}] AS t FROM candidates JOIN frames ON one = video) AS f
                       JOIN frames AS g ON other = g.video)
            WHERE bit_count(xor(turned, b)) <= {_SAME_BITS}
            GROUP BY ALL)
        JOIN sizes AS s ON one = s.video JOIN sizes AS t ON other = t.video
        WHERE CASE WHEN s.num <= t.num THEN num_one / s.num ELSE num_other / t.num END >= {_SAME_SHARE}
        """
    )


def _turns(name: str) -> list[str]:
    """Return SQL expressions for the hash of the same picture in its eight positions: turned, mirrored, both.

    Mirroring a picture changes the sign of every other frequency, and turning it by a quarter also swaps rows and columns. So a bit is
    inverted, since the median is near zero, or moves. Measured on a clip and its upside-down copy: 4 to 6 bits off.
    """
    places = [(u, v) for u in range(_SIDE) for v in range(_SIDE)]
    columns = _mask([v % 2 == 1 for _, v in places])
    rows = _mask([u % 2 == 1 for u, _ in places])
    swapped = _transposed(name)
    return [
        f"xor({hash}, {mask}::UBIGINT)"
        for hash in (name, swapped)
        for mask in (0, columns, rows, columns ^ rows)
    ]


def _mask(is_set: list[bool]) -> int:
    return int("".join(str(int(bit)) for bit in is_set), 2)


def _transposed(name: str) -> str:
    """Return the expression that transposes eight rows of eight bits (Warren, "Hacker's Delight", 7-3)."""
    for shift, mask in ((7, 0x00AA00AA00AA00AA), (14, 0x0000CCCC0000CCCC), (28, 0x00000000F0F0F0F0)):
        moved = f"(xor({name}, {name} >> {shift}) & {mask}::UBIGINT)"
        name = f"xor(xor({name}, {moved}), {moved} << {shift})"
    return name


def _groups(one: np.typing.NDArray[np.int64], other: np.typing.NDArray[np.int64]) -> dict[int, int]:
    """Return the group of every video that has a copy."""
    videos, places = np.unique(np.concatenate([one, other]), return_inverse=True)
    if not videos.size:
        return {}
    a, b = places[: len(one)], places[len(one) :]
    _, component = connected_components(
        coo_array((np.ones(len(a)), (a, b)), shape=(len(videos),) * 2), directed=False
    )
    return dict(zip(videos.tolist(), component.tolist(), strict=True))


def _table(db: duckdb.DuckDBPyConnection) -> pa.Table:
    found = db.sql(
        """
        WITH members AS (
            SELECT component, manifest_row, video_id, videos.uri, status, p_fake, verdict,
                   coalesce(num, 0) AS num_hashes,
                   count(DISTINCT verdict) OVER of_group > 1 AS verdicts_disagree,
                   count(*) OVER of_group AS group_size, min(manifest_row) OVER of_group AS first_row
            FROM grouped JOIN manifest USING (manifest_row) JOIN videos USING (video_id)
                 LEFT JOIN sizes ON sizes.video = manifest_row
            WINDOW of_group AS (PARTITION BY component))
        SELECT dense_rank() OVER (ORDER BY verdicts_disagree DESC, group_size DESC, first_row) - 1 AS group_id,
               * EXCLUDE (component, first_row, manifest_row)
        FROM members ORDER BY group_id, p_fake DESC NULLS LAST, manifest_row
        """
    ).to_arrow_table()
    return found.select(DUPLICATES.names).cast(DUPLICATES)
