"""The options of the commands that work through an archive."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from functools import reduce
from typing import Any

import click

from dfd_core.config import DETECTORS, SANDBOXES, Limits
from dfd_core.errors import ERROR_KINDS, RequestError

LIMITS = Limits()

_OPTIONS = (
    click.option("--detector", type=click.Choice(DETECTORS), help="Which face detector: dlib, as in the report that this grew from, or fast, which takes an eighth of the time at 1080p and finds smaller and turned faces too.  [default: dlib; for a folder of faces, its own]"),
    click.option("--detect-max-side", "detect_max_side_px", type=int, metavar="PX", help="Scale frames down so that the face detector sees at most this many pixels on the longer side. It is faster, and dlib finds faces of about 80 of those pixels.  [default: frames as they are for dlib, 320 for fast]"),
    click.option("--max-failed", type=click.FloatRange(0, 1), default=0.5, show_default=True, help="Share of failed videos above which the exit status is 1."),
    click.option("--retry-failed", metavar="[=KINDS]", help="Try videos with an error again: all, or those of the given kinds, as in --retry-failed=timeout,crashed."),
    click.option("--overwrite", is_flag=True, help="Start again from nothing; the old results are moved aside first."),
    click.option("--hash", is_flag=True, help="Read every video whole and put its SHA-256 into videos/, for `dfd verify`. Videos that were opened before have none."),
    click.option("--repair", is_flag=True, help="Mend a damaged log first: move damaged files to OUT/quarantine, and do again only what was in them."),
    click.option("--max-pixels", type=int, default=LIMITS.max_pixels, show_default=True, help="Most pixels of a frame; a video with larger frames fails."),
    click.option("--max-duration-s", type=float, default=LIMITS.max_duration_s, show_default=True, help="Longest video, in seconds; a longer one fails."),
    click.option("--timeout-factor", type=float, default=LIMITS.timeout_factor, show_default=True, help="Seconds that a segment may take for each second of its duration."),
    click.option("--timeout-floor-s", type=float, default=LIMITS.timeout_floor_s, show_default=True, help="Seconds that any segment may take, however short, and that opening a video may take."),
    click.option("--memory-mb", type=int, default=LIMITS.memory_mb, show_default=True, help="Most memory of a decoding process, MB."),
    click.option("--max-cpu-s", type=float, default=LIMITS.max_cpu_s, show_default=True, help="Most CPU seconds of a video. Beyond, what was done until then is kept."),
    click.option("--max-pixels-per-byte", type=float, default=LIMITS.max_pixels_per_byte, show_default=True, help="Most pixels looked at for each byte of a file: a small file may ask for endless work."),
    click.option("--sandbox", type=click.Choice(SANDBOXES), default=LIMITS.sandbox, show_default=True, help="Confine decoding processes as far as the system can (auto), fully or not at all (require), or not (off)."),
    click.option("--allow-http", is_flag=True, help="Read http and https addresses too, as SOURCE and in a manifest. A server then decides what is fetched from where."),
    click.option("--stall-s", type=click.FloatRange(0, min_open=True), default=300.0, show_default=True, help="Seconds in which nothing finishes after which the log says which stage waits, on which node."),
    click.option("--profile", is_flag=True, help="Record where one extraction worker's time goes, for speedscope: OUT/profile.speedscope.json."),
    click.option("--address", help="A Ray cluster's address.  [default: RAY_ADDRESS, else this machine]"),
    click.option("--verbose", is_flag=True, help="Show what Ray and TensorFlow say."),
)  # fmt: skip


def archive_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that every such job has."""
    return reduce(lambda decorated, option: option(decorated), reversed(_OPTIONS), command)


def request_fields(flags: dict[str, Any]) -> dict[str, Any]:
    """Return the options as the fields of a request: the limits as one, the kinds to retry as a set.

    Raises:
        RequestError: A limit is out of range, or a kind of error is unknown.
    """
    flags = dict(flags)
    limits = take_limits(flags)
    kinds = frozenset(filter(None, (flags.pop("retry_failed") or "").split(",")))
    if "all" in kinds:
        kinds = frozenset(ERROR_KINDS)
    if unknown := kinds - frozenset(ERROR_KINDS):
        raise RequestError(
            f"Expected error kinds of {', '.join(ERROR_KINDS)}. Received: {', '.join(sorted(unknown))}"
        )
    return {**flags, "limits": limits, "retry_kinds": kinds}


def take_limits(flags: dict[str, Any]) -> Limits:
    """Return the limits that the options give, and take them out of `flags`.

    Raises:
        RequestError: One is out of range.
    """
    return Limits(**{limit.name: flags.pop(limit.name) for limit in fields(Limits)})
