"""How the flags become what Ray is asked for."""

import pytest

from dfd.cluster.pools import Pools, take_pools
from dfd_core.errors import RequestError

FLAGS = {"cpus_per_extract": 1.0, "score_actors": None, "gpus_per_actor": None, "score_batch_size": 64}


def test_without_flags_the_cluster_decides():
    assert take_pools(dict(FLAGS)) == Pools()
    assert Pools().actor_options(max_gpus=0) == {"num_cpus": 0}
    assert Pools().actor_options(max_gpus=2) == {"num_cpus": 0, "num_gpus": 1.0}
    assert Pools().extract_options()["num_cpus"] == 1.0


def test_the_flags_are_taken_out_and_kept():
    flags = FLAGS | {"score_actors": "2:8", "gpus_per_actor": 0.25, "score_batch_size": 256, "source": "s"}
    pools = take_pools(flags)
    assert flags == {"source": "s"}
    assert pools == Pools(1.0, 2, 8, 0.25, 256)
    assert pools.actor_range(num_cpus=4, max_cpus=4, max_gpus=1) == (2, 8)
    assert pools.actor_options(max_gpus=1) == {"num_cpus": 0, "num_gpus": 0.25}


@pytest.mark.parametrize(
    ("pools", "sizes", "expected"),
    [
        (Pools(), {"num_cpus": 0, "max_cpus": 64, "max_gpus": 0}, (1, 4)),
        (Pools(), {"num_cpus": 64, "max_cpus": 64, "max_gpus": 0}, (4, 4)),
        (Pools(gpus_per_actor=0), {"num_cpus": 32, "max_cpus": 32, "max_gpus": 8}, (2, 2)),
        (Pools(gpus_per_actor=0.4), {"num_cpus": 32, "max_cpus": 32, "max_gpus": 2}, (1, 4)),
        (Pools(gpus_per_actor=2), {"num_cpus": 32, "max_cpus": 32, "max_gpus": 8}, (1, 4)),
        (Pools(gpus_per_actor=1), {"num_cpus": 0, "max_cpus": 0, "max_gpus": 0}, (1, 1)),
        (Pools(min_actors=3, max_actors=3), {"num_cpus": 2, "max_cpus": 2, "max_gpus": 0}, (3, 3)),
    ],
)
def test_the_pool_reaches_from_the_cluster_as_it_is_to_what_it_may_become(pools, sizes, expected):
    assert pools.actor_range(**sizes) == expected


@pytest.mark.parametrize(
    ("pools", "num_cpus", "num_gpus", "complaint"),
    [
        (Pools(cpus_per_extract=4), 2, 0, "--cpus-per-extract of at most the 2 CPUs.* Received: 4$"),
        (Pools(gpus_per_actor=1), 2, 0, "--gpus-per-actor of at most the 0 GPUs.* Received: 1$"),
        (Pools(gpus_per_actor=0.5), 2, 0, "--gpus-per-actor of at most the 0 GPUs.* Received: 0.5$"),
        (Pools(min_actors=2, max_actors=4), 8, 1, "--score-actors of at most 1, for 1 GPUs.* Received: 2$"),
        (Pools(1, 5, 5, 0.4), 8, 2, "--score-actors of at most 4, .* Received: 5$"),
    ],
)
def test_what_a_machine_does_not_have_is_refused_and_not_waited_for(pools, num_cpus, num_gpus, complaint):
    with pytest.raises(RequestError, match=complaint):
        pools.refuse_beyond(num_cpus=num_cpus, num_gpus=num_gpus)


@pytest.mark.parametrize(
    ("pools", "num_cpus", "num_gpus"),
    [
        (Pools(), 1, 0),
        (Pools(), 1, 1),
        (Pools(cpus_per_extract=2), 2, 0),
        (Pools(min_actors=1, max_actors=9), 2, 1),
        (Pools(min_actors=3, max_actors=3), 2, 0),
        (Pools(1, 3, 3, 0), 2, 1),
        (Pools(1, 4, 4, 0.25), 2, 1),
        (Pools(gpus_per_actor=2), 2, 2),
    ],
)
def test_what_a_machine_has_is_not_refused(pools, num_cpus, num_gpus):
    pools.refuse_beyond(num_cpus=num_cpus, num_gpus=num_gpus)


def test_extractions_at_a_time_follow_their_cpus():
    assert [Pools(cpus_per_extract=cpus).num_slots(8) for cpus in (0.5, 1, 3, 16)] == [16, 8, 2, 1]


@pytest.mark.parametrize(
    "flags",
    [
        {"score_actors": "0:2"}, {"score_actors": "3:2"}, {"score_actors": "many"}, {"score_actors": "2:"},
        {"score_actors": "0"}, {"gpus_per_actor": -1.0}, {"gpus_per_actor": 1.5}, {"cpus_per_extract": 0.0},
        {"score_batch_size": 0},
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_by_its_flags_name(flags):
    (name,) = flags
    with pytest.raises(RequestError, match="--" + name.replace("_", "-")):
        take_pools(FLAGS | flags)
