"""How the stages share a cluster: CPUs for extraction, actors for scoring, as asked for and as the cluster allows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any

import click

from dfd_core.errors import RequestError

_CPUS_PER_CPU_ACTOR = 16


@dataclass(frozen=True, slots=True)
class Pools:
    """What the flags ask for.

    Attributes:
        cpus_per_extract: CPUs that one extraction takes.
        min_actors: Score actors that are there from the start; None for what suits the cluster.
        max_actors: Score actors that there may be; None for what suits the cluster.
        gpus_per_actor: GPUs of one score actor, 0 for none; None for one where the cluster has or may get any.
        batch_size: The most crops that one run of the model takes.
    """

    cpus_per_extract: float = 1.0
    min_actors: int | None = None
    max_actors: int | None = None
    gpus_per_actor: float | None = None
    batch_size: int = 64

    def __post_init__(self) -> None:
        if not self.cpus_per_extract > 0:
            raise RequestError(f"Expected --cpus-per-extract > 0. Received: {self.cpus_per_extract:g}")
        gpus = self.gpus_per_actor or 0.0
        if gpus < 0 or (gpus > 1 and not float(gpus).is_integer()):
            raise RequestError(
                f"Expected --gpus-per-actor from 0 to 1, or a whole number. Received: {gpus:g}"
            )
        if self.batch_size < 1:
            raise RequestError(f"Expected --score-batch-size >= 1. Received: {self.batch_size}")
        if self.min_actors and self.max_actors and self.min_actors <= self.max_actors:
            return
        if self.min_actors is not None or self.max_actors is not None:
            raise RequestError(
                f"Expected --score-actors MIN:MAX with 1 <= MIN <= MAX. Received: {self.min_actors}:{self.max_actors}"
            )

    def refuse_beyond(self, *, num_cpus: float, num_gpus: float) -> None:
        """Check that a cluster which stays as it is has room for what is asked: Ray would wait for it for ever.

        Raises:
            RequestError: It has not.
        """
        if self.cpus_per_extract > num_cpus:
            raise RequestError(
                f"Expected --cpus-per-extract of at most the {num_cpus:g} CPUs that there are. "
                f"Received: {self.cpus_per_extract:g}"
            )
        gpus = self.actor_options(num_gpus).get("num_gpus", 0.0)
        if not gpus:
            return
        if gpus > num_gpus:
            raise RequestError(
                f"Expected --gpus-per-actor of at most the {num_gpus:g} GPUs that there are. Received: {gpus:g}"
            )
        room = _num_actors(num_gpus, gpus)
        if (self.min_actors or 1) > room:
            raise RequestError(
                f"Expected --score-actors of at most {room}, for {num_gpus:g} GPUs of which each takes {gpus:g}. "
                f"Received: {self.min_actors}"
            )

    def num_slots(self, num_cpus: float) -> int:
        """Return how many segments `num_cpus` CPUs extract at a time, at least 1."""
        return max(1, int(num_cpus // self.cpus_per_extract))

    def extract_options(self) -> dict[str, Any]:
        """Return what an extraction takes of a node."""
        return {"num_cpus": self.cpus_per_extract}

    def actor_options(self, max_gpus: float) -> dict[str, Any]:
        """Return how Ray places a score actor.

        It takes no CPU of its own: it would wait for one behind every extraction, and on a CPU it does the smaller part of
        the work.

        Args:
            max_gpus: GPUs that the cluster has or may get.
        """
        gpus = (1.0 if max_gpus >= 1 else 0.0) if self.gpus_per_actor is None else self.gpus_per_actor
        return {"num_cpus": 0, **({"num_gpus": gpus} if gpus else {})}

    def actor_range(self, *, num_cpus: float, max_cpus: float, max_gpus: float) -> tuple[int, int]:
        """Return the fewest and the most score actors: one where a GPU is, else one for 16 CPUs.

        >>> Pools().actor_range(num_cpus=2, max_cpus=2, max_gpus=0)
        (1, 1)
        >>> Pools().actor_range(num_cpus=0, max_cpus=512, max_gpus=4)
        (1, 4)
        >>> Pools(gpus_per_actor=0.5).actor_range(num_cpus=8, max_cpus=8, max_gpus=2)
        (1, 4)
        >>> Pools(min_actors=2, max_actors=3).actor_range(num_cpus=64, max_cpus=64, max_gpus=0)
        (2, 3)

        Args:
            num_cpus: CPUs of the cluster as it is.
            max_cpus: CPUs that it has or may get.
            max_gpus: GPUs that it has or may get.
        """
        gpus = self.actor_options(max_gpus).get("num_gpus", 0.0)
        if gpus:
            fewest, most = 1, max(1, _num_actors(max_gpus, gpus))
        else:
            fewest, most = (max(1, int(cpus) // _CPUS_PER_CPU_ACTOR) for cpus in (num_cpus, max_cpus))
        most = self.max_actors or max(most, fewest)
        return min(self.min_actors or fewest, most), most


WRITER = "dfd_writer"
"""The resource that an operator gives to the nodes that may write results, if not all may."""


def writer_options(resources: Mapping[str, float]) -> dict[str, Any]:
    """Return how Ray places a task that writes results: without a CPU, and only where `dfd_writer` is if any node has it.

    Nodes that decode videos can then do without the right to write.

    >>> writer_options({"CPU": 8.0}), writer_options({"CPU": 8.0, "dfd_writer": 4.0})
    ({'num_cpus': 0}, {'num_cpus': 0, 'resources': {'dfd_writer': 1}})

    Args:
        resources: What the cluster has, as `ray.cluster_resources` returns it.
    """
    return {"num_cpus": 0, **({"resources": {WRITER: 1}} if resources.get(WRITER) else {})}


def _num_actors(num_gpus: float, gpus: float) -> int:
    """Return how many actors of `gpus` GPUs have room; a fraction is of one GPU, never of two.

    >>> _num_actors(2, 0.4), _num_actors(2, 0.1), _num_actors(5, 2), _num_actors(0, 0.5)
    (4, 20, 2, 0)
    """
    return int(num_gpus) * int(1 / gpus) if gpus < 1 else int(num_gpus // gpus)


_OPTIONS = (
    click.option("--cpus-per-extract", type=float, default=1.0, show_default=True, help="CPUs of one extraction."),
    click.option("--score-actors", metavar="MIN:MAX", help="Fewest and most copies of the model.  [default: one for each GPU, else one for 16 CPUs]"),
    click.option("--gpus-per-actor", type=float, help="GPUs of each copy of the model: a fraction if several share one, 0 to score on CPUs.  [default: 1 if there are GPUs]"),
    click.option("--score-batch-size", type=int, default=64, show_default=True, help="Most crops in one run of the model."),
)  # fmt: skip


def pool_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say how the stages share the cluster."""
    return reduce(lambda decorated, option: option(decorated), reversed(_OPTIONS), command)


def take_pools(flags: dict[str, Any]) -> Pools:
    """Return the pools that the options ask for, and take them out of `flags`.

    Raises:
        RequestError: One is out of range.
    """
    fewest, most = _actor_range(flags.pop("score_actors"))
    return Pools(
        cpus_per_extract=flags.pop("cpus_per_extract"),
        min_actors=fewest,
        max_actors=most,
        gpus_per_actor=flags.pop("gpus_per_actor"),
        batch_size=flags.pop("score_batch_size"),
    )


def _actor_range(text: str | None) -> tuple[int | None, int | None]:
    """Return what MIN:MAX says.

    >>> _actor_range("2:8"), _actor_range("4"), _actor_range(None)
    ((2, 8), (4, 4), (None, None))
    """
    if text is None:
        return None, None
    fewest, colon, most = text.partition(":")
    if not fewest.isdecimal() or (colon and not most.isdecimal()):
        raise RequestError(f"Expected --score-actors MIN:MAX. Received: {text!r}")
    return int(fewest), int(most) if colon else int(fewest)
