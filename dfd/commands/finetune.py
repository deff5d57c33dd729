"""Fine-tune a classifier on labelled faces: LABELLED → a bundle that jobs/score.py takes."""

from __future__ import annotations

import os
import time
from contextlib import ExitStack, nullcontext, suppress
from dataclasses import dataclass, fields, replace
from typing import Any

import click
from click.core import ParameterSource

from dfd.archive.folder import is_taken_over, source_name, take_folder
from dfd.cluster.runtime import LOG, ray_cluster, without_stderr
from dfd.commands.shape import command, print_result
from dfd.exit_status import exit_with, is_interrupt
from dfd_core.config import PRECISIONS, SAMPLINGS, Sampling
from dfd_core.errors import ModelError, OutputError, RequestError
from dfd_core.model.card import CARD_FILENAME, ModelCard
from dfd_core.model.fetch import local_model
from dfd_core.model.source import DEFAULT_MODEL, starting_card
from dfd_core.run.output_folder import OutputFolder
from dfd_core.run.run_record import RunRecord, versions
from dfd_core.storage.files import exists
from dfd_core.storage.text import as_text, one_line
from dfd_core.storage.uri import is_remote, local_path
from dfd_core.training.augment import Augmentation
from dfd_core.training.labelled import Labelled, open_labelled
from dfd_core.training.recipes import RECIPES
from dfd_core.training.settings import CALIBRATIONS, TrainingSettings

DEFAULTS = TrainingSettings()

EXAMPLES = """
dfd NAME faces/ --out bundle/
dfd NAME faces/ --out bundle/ --backbone efficientnet_lite0 --weights default --learning-rate 1e-4
dfd NAME faces/ --out bundle/ --backbone small_resnet --weights none --learning-rate 1e-3 --workers 2
dfd NAME manifest.parquet --faces faces/ --out bundle/ --threshold fpr:0.01
dfd NAME faces/ --out bundle/ --augment flip=0.5,jpeg=0.5 --calibration isotonic
ray job submit --address http://127.0.0.1:8265 --working-dir . -- \\
    python jobs/finetune.py s3://bucket/faces --out s3://bucket/bundle --workers 8 --batch-size 256
"""


@dataclass(frozen=True, slots=True)
class FinetuneRequest:
    """One call of the job.

    Attributes:
        faces: Where faces are extracted to when LABELLED is a manifest of videos.
        margin: Widening of the faces' boxes; None for what the faces were made with, else 0.
        sampling: Which frames the model is for; None for what the faces were made with, else `stride`.
        checkpoint_every_steps: 0 for one checkpoint an epoch.
        max_failures: How often lost workers are replaced before the job gives up.
        use_gpu: `auto`, `yes` or `no`.
    """

    source: str
    out: str
    settings: TrainingSettings = DEFAULTS
    faces: str | None = None
    margin: float | None = None
    sampling: str | None = None
    checkpoint_every_steps: int = 500
    max_failures: int = 3
    use_gpu: str = "auto"
    overwrite: bool = False
    address: str | None = None
    verbose: bool = False

    def configuration(self) -> dict[str, Any]:
        """Return what two runs into the same folder must have in common: all but `--epochs`, which is only an end."""
        made = {"source": source_name(self.source), "margin": self.margin, "sampling": self.sampling}
        return {
            **made,
            **{name: value for name, value in self.settings.to_json().items() if name != "epochs"},
        }


def run(request: FinetuneRequest) -> int:
    """Run the job and return its exit status.

    Raises:
        RequestError: The request is unusable.
    """
    started_s = time.monotonic()
    if request.sampling is not None:
        Sampling.parse(request.sampling)
    labelled = open_labelled(request.source)
    if request.margin is not None and labelled.margin not in (None, request.margin):
        raise RequestError(
            f"The faces were cut out with a margin of {labelled.margin:g}; --margin cannot be {request.margin:g}"
        )
    out = OutputFolder.at(request.out)
    with ExitStack() as stack:
        model = {"backbone": request.settings.backbone}
        record = take_folder(stack, out, request.configuration(), overwrite=request.overwrite, model=model)
        if record.values["outcome"] == "complete" and exists(out.root / CARD_FILENAME):
            return _complete(record, request)
        record.values["epochs"] = request.settings.epochs
        record.begin()
        record.write(out)
        try:
            labelled, address = _with_faces(labelled, request)
            _train(stack, out, request, labelled, address, record)
        except BaseException as error:
            outcome = "interrupted" if is_interrupt(error) else "broken"
            record.end(outcome, wall_s=round(time.monotonic() - started_s, 1), error=one_line(error))
            if not is_taken_over():  # the record is the other run's then
                with suppress(OutputError):
                    record.write(out)
            raise
        record.end("complete", wall_s=round(time.monotonic() - started_s, 1))
        record.write(out)
    return 0


def _complete(record: RunRecord, request: FinetuneRequest) -> int:
    epochs = record.values["epochs"]
    if epochs != request.settings.epochs:
        raise OutputError(
            f"The bundle is complete, with --epochs {epochs}. Choose another folder, or start anew with --overwrite."
        )
    LOG.info("The bundle is complete; nothing is left to do")
    return 0


def _with_faces(labelled: Labelled, request: FinetuneRequest) -> tuple[Labelled, str]:
    """Return the faces and their address; of videos they are extracted first."""
    if labelled.kind != "videos":
        return labelled, request.source
    if request.faces is None:
        raise RequestError(
            f"{as_text(request.source)} lists videos; name a folder for their faces: --faces FOLDER"
        )
    from dfd.commands import faces as extract_faces

    LOG.info("Extracting the faces of %s into %s", as_text(request.source), request.faces)
    wanted = extract_faces.ExtractFacesRequest(
        source=request.source,
        out=request.faces,
        sampling=request.sampling,
        margin=request.margin or 0.0,
        address=request.address,
        verbose=request.verbose,
    )
    status = extract_faces.run(wanted)
    if status:
        raise RequestError(f"The faces could not be extracted (exit status {status})")
    return open_labelled(request.faces), request.faces


def _train(
    stack: ExitStack,
    out: OutputFolder,
    request: FinetuneRequest,
    labelled: Labelled,
    address: str,
    record: RunRecord,
) -> None:
    stack.enter_context(ray_cluster(request.address, verbose=request.verbose))
    with nullcontext() if request.verbose else without_stderr():  # TensorFlow says what it does not find
        from dfd.train import bundle as train_bundle
        from dfd.train import run as train_run

    start = _starting_card(request.settings)
    card = replace(
        start,
        name=out.root.name or "bundle",
        input_size=request.settings.input_size,
        margin=_first(request.margin, labelled.margin, start.margin),
        sampling=_first(request.sampling, labelled.sampling, start.sampling),
    )
    prepared = train_run.prepare(out, labelled, address, request.settings)
    train_bundle.tell_data(prepared)
    result = train_run.fit(
        out,
        prepared,
        card,
        request.settings,
        checkpoint_every_steps=request.checkpoint_every_steps,
        max_failures=request.max_failures,
        use_gpu=request.use_gpu,
    )
    finished = train_bundle.write_bundle(out, card, prepared, result, request.settings, versions())
    record.values["model"] |= {
        "model_id": finished.card.model_id,
        "sha256": finished.card.sha256,
        "workers": result.workers,
    }
    train_run.remove_work(out)
    print_result(train_bundle.summary(out, finished), lambda: train_bundle.print_summary(out, finished))


def _starting_card(settings: TrainingSettings) -> ModelCard:
    """Return the card of the weights that the training starts from, or the backbone's defaults."""
    weights = None if settings.weights in ("imagenet", "none") else local_model(settings.weights)
    return starting_card(settings.backbone, weights)


def _input_size(backbone: str, weights: str) -> int:
    """Return the side of the input that the weights were made for, or the default, in pixels."""
    return _starting_card(replace(DEFAULTS, backbone=backbone, weights=weights)).input_size


def _first(*values: Any) -> Any:
    return next(value for value in values if value is not None)


@command(EXAMPLES)
@click.argument("labelled")
@click.option(
    "--out", required=True, help="The bundle's folder; the same command again resumes an interrupted run."
)
@click.option("--faces", help="Where to put the faces when LABELLED is a manifest of videos.")
@click.option("--margin", type=click.FloatRange(0), help="What the faces' boxes were widened by, as a fraction.  [default: what the folder of faces says, else 0]")  # fmt: skip
@click.option("--sampling", help=f"{SAMPLINGS}: the frames the model is for.  [default: what the folder of faces says, else stride]")  # fmt: skip
@click.option("--recipe", type=click.Choice(list(RECIPES)), default="seed", show_default=True, help="Defaults of the options below: the seed report's, or robust: self-blended faces, H.264, AdamW with cosine decay, an average of the weights, label smoothing, balanced labels.")  # fmt: skip
@click.option("--backbone", default=DEFAULTS.backbone, show_default=True, help="A keras.applications model in snake_case, efficientnet_lite0 or small_resnet.")  # fmt: skip
@click.option(
    "--input-size",
    type=int,
    help=f"Side of the model's input, pixels.  [default: the bundle's that --weights names, else {DEFAULTS.input_size}]",
)
@click.option("--weights", default=DEFAULTS.weights, show_default=True, help="imagenet, none, default for those of the detector that ships, or a bundle, .keras or .h5 file.")  # fmt: skip
@click.option(
    "--freeze-until", help="The last layer of the backbone that keeps its weights.  [default: all learn]"
)
@click.option(
    "--batch-norm-momentum",
    type=float,
    help="Momentum of every batch normalisation.  [default: the backbone's own]",
)
@click.option("--epochs", default=DEFAULTS.epochs, show_default=True, help="Most passes over the faces.")
@click.option("--batch-size", default=DEFAULTS.batch_size, show_default=True, help="Faces a step, over all workers together.")  # fmt: skip
@click.option("--learning-rate", default=DEFAULTS.learning_rate, show_default=True, help="Learning rate at the start.")  # fmt: skip
@click.option("--optimizer", type=click.Choice(["adam", "adamw", "sgd"]), default=DEFAULTS.optimizer, show_default=True, help="How the weights are updated.")  # fmt: skip
@click.option("--weight-decay", type=float, help="Of kernels, not of biases and norms, after AdamW's rule.  [default: the optimizer's own]")  # fmt: skip
@click.option("--average", type=float, help="Momentum of a moving average of the weights, which is then what validates and is kept; less in a short run.  [default: no average]")  # fmt: skip
@click.option("--label-smoothing", default=DEFAULTS.label_smoothing, show_default=True, help="Share of each target that goes evenly to both classes.")  # fmt: skip
@click.option("--patience", default=DEFAULTS.patience, show_default=True, help="Epochs without a lower val_loss after which training stops.")  # fmt: skip
@click.option("--lr-schedule", type=click.Choice(["plateau", "cosine"]), default=DEFAULTS.lr_schedule, show_default=True, help="plateau: lower the rate when val_loss stalls; cosine: a warm-up, then a fall over all --epochs.")  # fmt: skip
@click.option("--lr-factor", default=DEFAULTS.lr_factor, show_default=True, help="Factor by which the learning rate falls when val_loss no longer does.")  # fmt: skip
@click.option("--lr-patience", default=DEFAULTS.lr_patience, show_default=True, help="Epochs without a lower val_loss after which the learning rate falls.")  # fmt: skip
@click.option("--min-learning-rate", default=DEFAULTS.min_learning_rate, show_default=True, help="Learning rate below which it does not fall.")  # fmt: skip
@click.option("--validation", default=DEFAULTS.validation, show_default=True, help="Share of the videos kept for validation, split by group.")  # fmt: skip
@click.option("--threshold", default=DEFAULTS.threshold, show_default=True, help="p_fake from which the verdict is fake: a number, or chosen on the validation videos by eer, youden or fpr:X.")  # fmt: skip
@click.option("--uncertain-rate", type=float, help="Share of the validation's real videos that may be called fake, and of its fake ones real. It sets two thresholds, between which the verdict is uncertain.  [default: one threshold]")  # fmt: skip
@click.option("--calibration", type=click.Choice(CALIBRATIONS), default=DEFAULTS.calibration, show_default=True, help="How p_fake is fitted to the validation videos, so that 0.8 means four fakes in five.")  # fmt: skip
@click.option("--class-balance", type=click.Choice(["none", "weights"]), default=DEFAULTS.class_balance, show_default=True, help="weights: both labels count the same, however many faces each has.")  # fmt: skip
@click.option("--dataset-weights", default=DEFAULTS.dataset_weights, help="NAME=W,…: share of an epoch's faces that each dataset gets, by the column dataset or pool; small datasets are then repeated.  [default: each face once]")  # fmt: skip
@click.option("--augment", default="default", show_default=True, help=f"How faces are altered in training: none, default or NAME=P,… with probabilities. default is {Augmentation()}.")  # fmt: skip
@click.option("--precision", type=click.Choice(PRECISIONS), default=DEFAULTS.precision, show_default=True, help="Number format of the training.")  # fmt: skip
@click.option("--workers", default=DEFAULTS.num_workers, show_default=True, help="Processes that train.")
@click.option("--use-gpu", type=click.Choice(["auto", "yes", "no"]), default="auto", show_default=True, help="Give each worker a GPU; auto: if the cluster has enough of them.")  # fmt: skip
@click.option("--shuffle-faces", default=DEFAULTS.shuffle_faces, show_default=True, help="Faces in the buffer that each worker draws a batch from.")  # fmt: skip
@click.option("--checkpoint-every-steps", type=click.IntRange(0), default=500, show_default=True, help="Steps between two checkpoints; one follows each epoch as well. 0: only those.")  # fmt: skip
@click.option("--max-failures", type=click.IntRange(0), default=3, show_default=True, help="How often lost workers are replaced before the job gives up.")  # fmt: skip
@click.option("--seed", default=DEFAULTS.seed, show_default=True, help="Seed of weights, split, order and augmentation.")  # fmt: skip
@click.option(
    "--overwrite", is_flag=True, help="Start again from nothing; the old bundle is moved aside first."
)
@click.option("--address", help="A Ray cluster's address.  [default: RAY_ADDRESS, else this machine]")
@click.option("--verbose", is_flag=True, help="Show what Ray and TensorFlow say.")
def main(**flags: Any) -> None:
    """Fine-tune a classifier on LABELLED: a folder of `dfd faces`, a Parquet file or folder with pictures of
    faces, or a manifest (.csv, .parquet, .jsonl) of pictures or, with --faces, of videos.

    Writes a bundle for `dfd score`: model.keras, card.json, history.csv, logs/, curves.png, confusion.png.

    Exit status: 0 the bundle is written; 1 the training failed, and the same command resumes; 2 the request is
    unusable; 130 interrupted, and the same command resumes.
    """
    chosen = with_recipe(flags, click.get_current_context())
    exit_with(lambda: _status(chosen), verbose=flags["verbose"])


def with_recipe(flags: dict[str, Any], context: click.Context) -> dict[str, Any]:
    """Return `flags` without `recipe`, which decides the options that were not given on the command line."""
    is_given = {name for name in flags if context.get_parameter_source(name) is not ParameterSource.DEFAULT}
    recipe = {name: value for name, value in RECIPES[flags["recipe"]].items() if name not in is_given}
    return {name: value for name, value in {**flags, **recipe}.items() if name != "recipe"}


def _status(flags: dict[str, Any]) -> int:
    try:
        return run(_request(flags))
    except Exception as error:
        if type(error).__name__ not in ("WorkerGroupError", "ControllerError", "TrainingFailedError"):
            raise
        LOG.error("The training failed, and the same command resumes: %s", one_line(error))
        return 1


def _request(flags: dict[str, Any]) -> FinetuneRequest:
    flags["num_workers"] = flags.pop("workers")
    flags["augmentation"] = Augmentation.parse(flags.pop("augment"))
    if not is_remote(flags["weights"]) and flags["weights"] not in (
        "imagenet",
        "none",
        DEFAULT_MODEL,
    ):
        flags["weights"] = os.path.abspath(local_path(flags["weights"]))  # workers run in other folders
        if not os.path.exists(flags["weights"]):
            raise ModelError(f"There are no weights at {flags['weights']}")
    if flags["input_size"] is None:
        flags["input_size"] = _input_size(flags["backbone"], flags["weights"])
    settings = TrainingSettings(**{field.name: flags.pop(field.name) for field in fields(TrainingSettings)})
    return replace(FinetuneRequest(flags.pop("labelled"), flags.pop("out"), settings), **flags)
