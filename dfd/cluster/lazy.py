"""A Ray cluster that starts when it is first needed."""

from __future__ import annotations

import os
from contextlib import ExitStack

from dfd.cluster.runtime import cluster_cpus, is_local, ray_cluster, since_start_s


class LazyCluster:
    """Starts Ray, or connects to it, when it is first needed: a run with nothing to do never does."""

    def __init__(self, stack: ExitStack, address: str | None, *, verbose: bool) -> None:
        """Take the stack that ends the cluster, the cluster's address, and whether Ray may log."""
        self._stack = stack
        self._address = address
        self._verbose = verbose
        self._started = False
        self.ready_s = 0.0
        """Seconds from the start of the command until Ray was ready; 0.0 before."""

    def start(self) -> None:
        """Start or connect, once."""
        if not self._started:
            self._stack.enter_context(ray_cluster(self._address, verbose=self._verbose))
            self._started = True
            self.ready_s = since_start_s()

    @property
    def num_cpus(self) -> int:
        """CPUs of the cluster. A cluster of this machine need not be started for it."""
        if not is_local(self._address):
            self.start()
        return cluster_cpus() if self._started else os.cpu_count() or 1
