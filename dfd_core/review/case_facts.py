"""What the report of one video says about the request, the file, the run and the model."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

from dfd_core.review.model import ScoredBy
from dfd_core.review.tables import Finished
from dfd_core.review.words import Fact
from dfd_core.storage.address import Address
from dfd_core.storage.files import exists, read_bytes
from dfd_core.storage.text import as_text

_HASHES = "MANIFEST.sha256"


def asked(run: Finished) -> Iterator[Fact]:
    """Yield what was asked of the run."""
    configuration = run.run["configuration"]
    yield Fact(
        "Question", "Do the faces in this video show traces that this detector associates with manipulation?"
    )
    if sampling := configuration.get("sampling"):
        yield Fact(
            "Frames", str(sampling), "the rule by which frames were chosen; other frames were not looked at"
        )
    if aggregation := run.run.get("aggregation"):
        yield Fact("Score of the video", str(aggregation), "how the scores of faces become one")
    if precision := run.run["model"].get("precision"):
        yield Fact("Precision", str(precision), f"on {run.run['model'].get('device', 'an unknown device')}")


def identity(facts: Mapping[str, Any], others: Mapping[str, str | None], scores: str) -> Iterator[Fact]:
    """Yield what ties the report to the file and to the run's output."""
    yield Fact("Address", facts["uri"])
    for name in ("sha256", "size_bytes", "modified_at", "etag", "version"):
        if others.get(name):
            yield Fact(name, others[name] or "")
    if not others.get("sha256"):
        yield Fact(
            "sha256",
            "not recorded",
            "the run kept no hash of this file, so this report cannot be tied to its bytes",
        )
    for name, value in others.items():
        if name.startswith("c2pa") and value is not None:
            yield Fact(name, value)
    yield Fact("Scores", as_text(scores))
    hashes = Address.parse(scores) / _HASHES
    if exists(hashes):
        digest = hashlib.sha256(read_bytes(hashes)).hexdigest()
        yield Fact(
            f"sha256 of {_HASHES}", digest, "the list of hashes of the run's output; dfd verify compares them"
        )


def stated_by_the_card(model: ScoredBy) -> Iterator[Fact]:
    """Yield the model, its rule of verdicts, and what its card states."""
    yield Fact("Model", model.model_id)
    yield Fact("sha256 of the model", model.sha256 or "not recorded")
    rule = model.rule
    if rule.threshold_low == rule.threshold_high:
        yield Fact("Threshold", f"{rule.threshold_high:g}", "fake from it on, real below")
    else:
        meaning = "real below the low one, fake from the high one on, uncertain between them"
        yield Fact("Thresholds", f"{rule.threshold_low:g} and {rule.threshold_high:g}", meaning)
    for name, value in rule.limits.to_card().items():
        yield Fact(name, f"{value:g}", "beyond it the verdict is uncertain")
    if not model.card:
        yield Fact("Card", "not recorded", "nothing is known of its training and its errors")
        return
    for name in ("verdict_rule", "calibration", "training", "metrics", "licence"):
        if stated := model.card.get(name):
            yield from _flat(name, stated)
    if not model.card.get("metrics"):
        yield Fact("metrics", "none", "the card states no measured errors")


def _flat(name: str, value: Any) -> Iterator[Fact]:
    """Yield the leaves of a field of the card, each under its path."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flat(f"{name}: {key}", inner)
    else:
        yield Fact(name.replace("_", " "), str(value))


def times(run: Mapping[str, Any]) -> Iterator[Fact]:
    """Yield when the run worked, and the configuration that it had."""
    for number, attempt in enumerate(run["attempts"], 1):
        ended = attempt.get("finished_at", "no end recorded")
        yield Fact(
            f"Run {number}", f"{attempt.get('started_at')} to {ended}", str(attempt.get("outcome", ""))
        )
    if identity := run.get("configuration_id"):
        yield Fact("Configuration", str(identity))
