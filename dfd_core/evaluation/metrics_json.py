"""An evaluation as `metrics.json`, for programs; docs/evaluation.md describes it."""

from __future__ import annotations

import importlib.metadata
import json
from dataclasses import asdict
from typing import Any

from dfd_core.evaluation.evaluation import Evaluation, Part
from dfd_core.evaluation.verdict_counts import COVERAGES

SCHEMA_VERSION = 1
METRICS_FILENAME = "metrics.json"

_PACKAGES = ("dfd", "numpy", "scikit-learn")


def metrics_json(evaluation: Evaluation, sources: dict[str, str | None]) -> str:
    """Return the text of `metrics.json`. The same evaluation gives the same text."""
    truth, run = evaluation.truth, evaluation.run
    values = {
        "schema_version": SCHEMA_VERSION,
        **sources,
        "model": run["model"],
        "aggregation": run.get("aggregation"),
        "positive": "fake",
        "threshold": asdict(evaluation.threshold),
        "bootstrap": asdict(evaluation.bootstrap) | {"unit": "group" if truth.has_groups else "video"},
        "join": {
            "labelled": len(truth.videos),
            "unlabelled": truth.num_unlabelled,
            "labels_without_scores": list(truth.without_scores),
            "contradictory": list(truth.contradictory),
        },
        "warnings": [asdict(note) for note in evaluation.warnings],
        "parts": [_part_values(part) for part in evaluation.parts],
        "verdicts": [asdict(counts) for counts in evaluation.verdicts],
        "risk_coverage": [
            {"coverage": coverage, "risk": evaluation.risk.risk_at(coverage)} for coverage in COVERAGES
        ],
        "versions": {name: importlib.metadata.version(name) for name in _PACKAGES},
    }
    return json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _part_values(part: Part) -> dict[str, Any]:
    measured = asdict(part.measured)
    coverage = {"share": part.coverage.share, **asdict(part.coverage)}
    names = {"level": part.level, "by": part.by, "value": part.value, "contents": part.contents}
    return {**names, "coverage": coverage, **measured}
