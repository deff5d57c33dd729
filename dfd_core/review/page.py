"""The review page: a folder that opens from disk in a browser, without a server and without the network.

`index.html` holds the scripts, the style and the facts of the run. The videos are in script files beside it, because a
page on disk may load scripts but may not read files.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import jinja2
import pyarrow.fs as pafs
from markupsafe import Markup

from dfd_core.errors import OutputError
from dfd_core.review import words
from dfd_core.review.model import ScoredBy
from dfd_core.review.records import list_row, record, thumbnails
from dfd_core.review.tables import Finished, open_run
from dfd_core.review.videos import ranked_videos
from dfd_core.storage.address import Address
from dfd_core.storage.files import write_bytes
from dfd_core.storage.text import as_text, one_line

INDEX = "index.html"
DATA = "data"
MOST_VIDEOS = 20_000
VIDEOS_PER_FILE = 20
THUMBNAILS_PER_FILE = 100
_SCRIPTS = ("text.js", "data.js", "decisions.js", "timeline.js", "list.js", "video.js", "keys.js", "main.js")


@dataclass(frozen=True, slots=True)
class PageCounts:
    """What a page holds: videos of the run, videos on the page, and pictures of faces."""

    num_videos: int
    num_shown: int
    num_pictures: int


def write_page(scores: str, out: str, *, limit: int = MOST_VIDEOS) -> PageCounts:
    """Write the review page of the output folder `scores` into `out`.

    Args:
        scores: Local path or URI of a finished run.
        out: Local path or URI; absent, empty, or a review page, which is replaced.
        limit: The most videos that the page holds, the most suspicious first.

    Raises:
        OutputError: The scores cannot be read, or the folder cannot be written.
    """
    folder = Address.parse(out)
    with open_run(scores) as run:
        try:
            _clear(folder)
            return _write(run, folder, limit, as_text(scores))
        except OSError as error:
            raise OutputError(f"{folder} cannot be written: {one_line(error)}") from error


def _clear(folder: Address) -> None:
    """Remove an earlier page; `index.html` goes first, so that no page is left with another's data."""
    infos = folder.fs.get_file_info(pafs.FileSelector(folder.path, allow_not_found=True))
    names = {info.base_name for info in infos}
    if names - {INDEX, DATA}:
        raise OutputError(f"{folder} is not empty and is no review page")
    for info in sorted(infos, key=lambda info: info.base_name != INDEX):
        if info.type == pafs.FileType.Directory:
            folder.fs.delete_dir(info.path)
        else:
            folder.fs.delete_file(info.path)
    folder.fs.create_dir((folder / DATA).path, recursive=True)


def _write(run: Finished, folder: Address, limit: int, scores: str) -> PageCounts:
    data = folder / DATA
    rows: list[dict[str, Any]] = []
    records, small = _Chunks(data, "videos", VIDEOS_PER_FILE), _Chunks(data, "faces", THUMBNAILS_PER_FILE)
    num_pictures = 0
    model = ScoredBy.of(run.run)
    for video in ranked_videos(run, limit=limit):
        rows.append(list_row(video, len(run.own)))
        records.add(record(video, run, model, folder.path if folder.is_local else None))
        small.add(thumbnails(video))
        num_pictures += len(video.pictures)
    records.flush()
    small.flush()
    _write_script(data, "list", rows)
    num_videos = run.db.sql("SELECT count(*) FROM videos").fetchall()[0][0]
    counts = PageCounts(num_videos, len(rows), num_pictures)
    html = page_html(_summary(run, model, counts, rows, scores))
    write_bytes(folder / INDEX, html.encode())
    return counts


class _Chunks:
    """Entries in script files of a fixed number each, numbered by the place of the video."""

    def __init__(self, folder: Address, name: str, size: int) -> None:
        self._folder, self._name, self._size = folder, name, size
        self._number = 0
        self._held: list[Any] = []

    def add(self, entry: Any) -> None:
        """Add the entry of the next video."""
        self._held.append(entry)
        if len(self._held) == self._size:
            self.flush()

    def flush(self) -> None:
        """Write what is held."""
        if self._held:
            _write_script(self._folder, f"{self._name}-{self._number}", self._held)
            self._number += 1
            self._held = []


def _write_script(folder: Address, name: str, value: Any) -> None:
    # ASCII only: no character of a file's name can end the string, the script or the line.
    text = f"dfdReview({json.dumps(name)}, {safe_json(value)});\n"
    write_bytes(folder / f"{name}.js", text.encode("ascii"))


def safe_json(value: Any) -> str:
    r"""Return `value` as JSON that may stand in a script or in a page: ASCII, and without `<`, `>` and `&`.

    >>> safe_json("</script>\u2028")
    '"\\u003c/script\\u003e\\u2028"'
    """
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _summary(
    run: Finished, model: ScoredBy, counts: PageCounts, rows: Sequence[dict[str, Any]], scores: str
) -> dict[str, Any]:
    configuration = run.run["configuration"]
    identity = [run.run.get("configuration_id"), configuration.get("source"), model.model_id]
    return {
        "id": hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:16],
        "scores": scores,
        "source": configuration.get("source"),
        "model": model.model_id,
        "trained": model.trained,
        "threshold_low": model.rule.threshold_low,
        "threshold_high": model.rule.threshold_high,
        "aggregation": run.run.get("aggregation"),
        "sampling": configuration.get("sampling"),
        "margin": configuration.get("margin", 0),
        "finished": next((a.get("finished_at") for a in reversed(run.run["attempts"])), None),
        "num_videos": counts.num_videos,
        "num_shown": counts.num_shown,
        "verdicts": Counter(row["verdict"] or "none" for row in rows),
        "own": run.own,
        "videos_per_file": VIDEOS_PER_FILE,
        "faces_per_file": THUMBNAILS_PER_FILE,
        "no_proof": words.NO_PROOF,
        "occlusion_is_no_proof": words.OCCLUSION_IS_NO_PROOF,
    }


def page_html(summary: dict[str, Any]) -> str:
    """Return `index.html`: the style, the scripts and the facts of the run in one file."""
    style = _static("style.css")
    script = '"use strict";\n(() => {\n' + "\n".join(_static(name) for name in _SCRIPTS) + "})();\n"
    return _template().render(
        # Safe: this program's own files, and JSON without a character that means something in HTML.
        style=Markup(style),
        script=Markup(script),
        summary=Markup(safe_json(summary)),
        style_hash=_csp_hash(style),
        script_hash=_csp_hash(script),
        model=summary["model"],
    )


def _csp_hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _static(name: str) -> str:
    return (resources.files("dfd_core.review") / "page" / name).read_text(encoding="utf-8")


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("dfd_core.review", "page"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template("index.html.jinja")
