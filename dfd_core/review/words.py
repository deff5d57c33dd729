"""What a run says of a video, in words that a person reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from dfd_core.answers.verdicts import REASONS
from dfd_core.model.quality_limits import QualityLimits

NO_PROOF = (
    "A score is a statistical judgement of this one detector. It proves neither that a video is altered nor that it is "
    "genuine."
)
OCCLUSION_IS_NO_PROOF = "Marked parts move this detector's score when they are covered. They are no proof that these parts were altered."
STATUS_WORDS = {
    "scored": "decoded as sampled, at least one face",
    "partial": "scored, but part of the video could not be decoded",
    "no_face": "decoded as sampled, no face found: nothing is said about it",
    "failed": "could not be examined",
}


@dataclass(frozen=True, slots=True)
class Fact:
    """One fact of a video: its name, its value, and what follows from it, if anything."""

    name: str
    value: str
    note: str = ""


def answer(facts: Mapping[str, Any]) -> str:
    """Return the outcome of one video as a sentence."""
    p_fake, verdict = facts["p_fake"], facts["verdict"]
    if p_fake is None:
        return f"No score: {STATUS_WORDS.get(facts['status'], facts['status'])}."
    said = {
        "fake": "The detector calls this video fake",
        "real": "The detector calls this video real",
        "uncertain": "The detector cannot decide this video",
    }.get(verdict, "The detector gave this video a score")
    return f"{said}: {p_fake:.3f}, on a scale from 0 (real) to 1 (fake)."


def reason(name: str | None) -> str:
    """Return the reason of an uncertain verdict in words; empty for None."""
    return "" if name is None else REASONS.get(name, name.replace("_", " "))


def facts_of(facts: Mapping[str, Any], others: Mapping[str, str | None], limits: QualityLimits) -> list[Fact]:
    """Return what is known of a video.

    Args:
        facts: Its row of `videos`.
        others: Values of the columns that the pages know nothing about, by name.
        limits: The quality below which a verdict is uncertain.
    """
    return [*_examined(facts), *_container(facts), *quality(facts, limits), *_plain(others)]


def _examined(facts: Mapping[str, Any]) -> Iterator[Fact]:
    status = facts["status"]
    yield Fact("Status", status, STATUS_WORDS.get(status, ""))
    if facts["error_kind"]:
        yield Fact("Error", facts["error_kind"], facts["error_message"] or "")
    if facts["num_frames"] is not None:
        yield Fact("Frames examined", f"{facts['num_frames']:,}")
    if facts["num_faces"] is not None:
        yield Fact("Faces scored", f"{facts['num_faces']:,}")


def _container(facts: Mapping[str, Any]) -> Iterator[Fact]:
    if facts["duration_s"] is not None:
        yield Fact("Duration", clock(facts["duration_s"]))
    if facts["width"] and facts["height"]:
        shape = "upright" if facts["height"] > facts["width"] else "landscape"
        yield Fact("Size as shown", f"{facts['width']} × {facts['height']} px", shape)
    if facts["fps"]:
        yield Fact("Frame rate", f"{facts['fps']:.4g} a second")


_QUALITY = (
    ("face_share", "Frames with a face", "{:.0%}", "of the frames examined", None, None),
    ("side_px", "Side of the faces", "{:.0f} px", "median", "min_side_px", "smaller"),
    ("sharpness", "Sharpness", "{:.3g}", "lower is blurrier", "min_sharpness", "blurrier"),
    ("brightness", "Brightness", "{:.0f}", "of 255", None, None),
    ("blockiness", "Blockiness", "{:.2f}", "1 shows no compression blocks", "max_blockiness", "blockier"),
    ("bits_per_pixel", "Bits per pixel", "{:.3g}", "fewer is more compressed", "min_bits_per_pixel", "more compressed"),
)  # fmt: skip


def quality(facts: Mapping[str, Any], limits: QualityLimits) -> Iterator[Fact]:
    """Yield the measures of quality, and what each does to the trust in the score by the card's limits."""
    for name, title, form, meaning, limit_name, beyond in _QUALITY:
        if facts[name] is None:
            continue
        limit = getattr(limits, limit_name) if limit_name else None
        note = meaning
        if limit is not None and limit_name is not None:
            fails = facts[name] > limit if limit_name.startswith("max") else facts[name] < limit
            note += (
                f". {str(beyond).capitalize()} than the model card's limit of {limit:g}: the score carries no verdict"
                if fails
                else f". Within the model card's limit of {limit:g}"
            )
        yield Fact(title, form.format(facts[name]), note)


def _plain(others: Mapping[str, str | None]) -> Iterator[Fact]:
    for name, value in others.items():
        if value is not None:
            yield Fact(name, value)


def clock(seconds: float) -> str:
    """Return a time as a person reads it.

    >>> clock(3.25), clock(75), clock(3723.4)
    ('0:03.2', '1:15', '1:02:03.4')
    """
    tenths = int(seconds * 10 + 1e-6)
    minutes, tenths = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    whole, part = divmod(tenths, 10)
    head = f"{hours}:{minutes:02d}" if hours else f"{minutes}"
    return f"{head}:{whole:02d}" + (f".{part}" if part else "")
