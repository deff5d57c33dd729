"""Writes the bundle of a finished training and prints its summary."""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from dfd.cluster.runtime import LOG
from dfd.train.loop import VALIDATED_FILENAME
from dfd.train.run import Fitted, Prepared, read_validation_faces
from dfd_core.errors import OutputError
from dfd_core.evaluation import plots
from dfd_core.evaluation.intervals import Bootstrap
from dfd_core.model.card import CARD_FILENAME, MODEL_FILENAME, ModelCard
from dfd_core.model.safety import sha256_of
from dfd_core.run.output_folder import OutputFolder
from dfd_core.storage.address import Address
from dfd_core.storage.files import write_bytes
from dfd_core.storage.tables import read_table
from dfd_core.storage.text import one_line
from dfd_core.training.report import (
    Judged,
    best_epoch,
    diverged_epoch,
    judge,
    read_history,
    to_png,
    verdict_rule,
)
from dfd_core.training.settings import HISTORY_FILENAME, LOGS_FOLDER, TrainingSettings

_SHOWN = ("roc_auc", "balanced_accuracy", "eer", "log_loss", "ece")


@dataclass(frozen=True, slots=True)
class Finished:
    """A written bundle.

    Attributes:
        card: As written.
        judged: What was measured.
        epochs: Epochs that were trained.
        best_epoch: The one whose weights were kept, from 1.
    """

    card: ModelCard
    judged: Judged
    epochs: int
    best_epoch: int


def tell_data(prepared: Prepared) -> None:
    """Log the faces of training and validation."""
    for side in ("train", "validation"):
        counts = prepared.facts[side]
        LOG.info(
            "%s: %s faces of %s real and %s fake videos in %s groups",
            side,
            f"{counts['faces_real'] + counts['faces_fake']:,}",
            f"{counts['videos_real']:,}",
            f"{counts['videos_fake']:,}",
            f"{counts['groups']:,}",
        )
    if prepared.facts["left_out"]:
        LOG.warning(
            "Faces left out: %s", ", ".join(f"{n:,} {why}" for why, n in prepared.facts["left_out"].items())
        )


def write_bundle(
    out: OutputFolder,
    card: ModelCard,
    prepared: Prepared,
    fitted: Fitted,
    settings: TrainingSettings,
    versions: dict[str, str],
) -> Finished:
    """Write the bundle's files, the card last, and return its contents.

    Raises:
        OutputError: It cannot be written.
    """
    folder = fitted.folder
    history = read_history(folder)
    best, diverged = best_epoch(history), diverged_epoch(history)
    if diverged is not None:
        LOG.warning(
            "The training diverged in epoch %d and ended there; the weights are those of epoch %d. A lower --learning-rate "
            "or --precision float32 may go on longer",
            diverged,
            best,
        )
    faces = read_validation_faces(out, read_table(Address.parse(str(folder / VALIDATED_FILENAME))))
    judged = judge(faces, settings, bootstrap=Bootstrap(seed=settings.seed))
    if judged.threshold_note:
        LOG.warning("The threshold is %g: %s", judged.threshold, judged.threshold_note)
    training = {
        "settings": settings.to_json(),
        "data": prepared.facts,
        "epochs": len(history),
        "best_epoch": best,
        **({} if diverged is None else {"diverged_epoch": diverged}),
        "precision": sorted({worker["precision"] for worker in fitted.workers}),
        "backend": sorted({worker["backend"] for worker in fitted.workers}),
        "threshold_rule": settings.threshold,
        **({"threshold_note": judged.threshold_note} if judged.threshold_note else {}),
    }
    complete = replace(
        card,
        threshold=judged.threshold,
        **_three_verdicts(judged, settings),
        calibration=None if judged.calibration is None else judged.calibration.to_card(),
        training=training,
        metrics=judged.metrics,
        versions=versions,
        sha256=sha256_of(folder / MODEL_FILENAME),
    )
    logs = sorted(path for path in (folder / LOGS_FOLDER).rglob("*") if path.is_file())
    files = {
        str(path.relative_to(folder)): path
        for path in [folder / MODEL_FILENAME, folder / HISTORY_FILENAME, *logs]
    }
    pictures = {
        "curves.png": plots.training_curves(history, best_epoch=best),
        "confusion.png": plots.confusion_map(judged.measured.confusion),
    }
    contents = {name: to_png(figure) for name, figure in pictures.items()}
    _write(out, files, {**contents, CARD_FILENAME: complete.to_json().encode()})
    shutil.rmtree(folder, ignore_errors=True)
    return Finished(complete, judged, len(history), best)


def _three_verdicts(judged: Judged, settings: TrainingSettings) -> dict[str, Any]:
    """Return the card's fields of two thresholds; empty if there is one threshold."""
    if judged.verdicts is None or settings.uncertain_rate is None:
        return {}
    low, high = judged.verdicts
    rule = verdict_rule(settings.uncertain_rate)
    return {"threshold_low": low, "threshold_high": high, "verdict_rule": rule}


def _write(out: OutputFolder, files: dict[str, Path], contents: dict[str, bytes]) -> None:
    root = out.root
    try:
        for name, path in files.items():
            root.fs.create_dir((root / name).parent, recursive=True)
            write_bytes(root / name, path.read_bytes())
        for name, content in contents.items():
            write_bytes(root / name, content)
    except OSError as error:
        raise OutputError(f"{out.root} cannot be written: {one_line(error)}") from error


def summary(out: OutputFolder, finished: Finished) -> dict[str, Any]:
    """Return the main figures as JSON values."""
    card, measured = finished.card, finished.judged.measured
    return {
        "bundle": str(out.root).rstrip("/"),
        "model_id": card.model_id,
        "epochs": finished.epochs,
        "best_epoch": finished.best_epoch,
        "threshold": card.threshold,
        "calibration": card.calibration,
        "num_real": measured.num_real,
        "num_fake": measured.num_fake,
        **{name: asdict(measured.figures[name]) for name in _SHOWN},
    }


def print_summary(out: OutputFolder, finished: Finished) -> None:
    """Print the main figures and the next command."""
    console = Console(highlight=False, soft_wrap=True)
    card, measured = finished.card, finished.judged.measured
    console.print(
        f"\n[bold]{escape(card.model_id)}[/bold]: {finished.epochs} epochs, the best was {finished.best_epoch}"
    )
    console.print(
        f"validation videos: {measured.num_real:,} real, {measured.num_fake:,} fake, {measured.num_groups:,} groups"
    )
    for name in _SHOWN:
        console.print(f"  {name:<18} {_estimate(measured.figures[name])}")
    calibration: Any = card.calibration or {"kind": "none"}
    fitted = f" {calibration['temperature']:.3g}" if calibration["kind"] == "temperature" else ""
    if card.threshold_low is not None:
        console.print(
            f"uncertain from {card.threshold_low:.4g} to {card.threshold_high:.4g}: {card.verdict_rule}"
        )
    console.print(
        f"calibration: {calibration['kind']}{fitted}; threshold: {card.threshold:.4g} ({card.training['threshold_rule']})"
    )
    folder = escape(str(out.root).rstrip("/"))
    console.print(f"\ndfd score VIDEOS --model {folder} --out SCORES\n")


def _estimate(found: Any) -> str:
    if found.value is None:
        return "-"
    interval = f"  {found.low:.3f} to {found.high:.3f}" if found.low is not None else ""
    return f"{found.value:.3f}{interval}"
