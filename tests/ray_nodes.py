"""A Ray cluster of several nodes on this machine, of which nothing can be reached from another."""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

RAY = str(Path(sys.executable).with_name("ray"))
_START_S = 120.0
_ADDRESS = "127.0.0.1"
"""Of every node. Ray's servers listen on loopback only where a node's address is exactly this one."""
_RAY_START = """
import sys
import ray._private.ray_constants as constants
import ray._private.services as services
services.resolve_ip_for_localhost = lambda host: host  # `ray start` would take the machine's address on the network
constants.ENABLE_RAY_CLUSTER = True  # what the environment denies, so that Ray's other processes stay on loopback
from ray.scripts.scripts import main
sys.argv[0] = "ray"
main()
"""


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((_ADDRESS, 0))
        return int(probe.getsockname()[1])


def processes_of(group: int) -> list[int]:
    """Return the processes whose session is `group`."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and os.getsid(int(entry.name)) == group:
                found.append(int(entry.name))
        except ProcessLookupError:
            continue
    return found


def listening_addresses(pids: list[int]) -> set[str]:
    """Return the local addresses, as /proc has them in hexadecimal, on which `pids` accept TCP connections."""
    sockets: set[str] = set()
    for pid in pids:
        try:
            links = [os.readlink(entry) for entry in Path(f"/proc/{pid}/fd").iterdir()]
        except OSError:
            continue
        sockets |= {
            link.removeprefix("socket:[").rstrip("]") for link in links if link.startswith("socket:[")
        }
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == "0A" and words[9] in sockets:
                found.add(words[1].partition(":")[0])
    return found


def _agent_ports() -> list[str]:
    """Return ports for a node's agents, which would otherwise all take the same."""
    names = ("metrics-export", "dashboard-agent-listen", "dashboard-agent-grpc", "runtime-env-agent")
    return [f"--{name}-port={free_port()}" for name in names]


@dataclass
class Node:
    """One node: everything that its `ray start --block` has started is in one session."""

    name: str
    process: subprocess.Popen[bytes]

    def processes(self) -> list[int]:
        """Return everything of it: raylet, agents, workers and what they have started."""
        return processes_of(self.process.pid)

    def kill(self) -> None:
        """SIGKILL to everything of it."""
        for pid in self.processes():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.process.wait(timeout=30)


@dataclass
class RayNodes:
    """A head without CPUs, and the nodes that join it.

    Attributes:
        folder: Where logs and Ray's session go; short, for it is part of socket names.
        home: The user's home, whose `.ray/auth_token` then is the token; None for a token in the environment.
    """

    folder: Path
    home: Path | None = None
    nodes: dict[str, Node] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.token = (
            secrets.token_hex(16)
            if self.home is None
            else (self.home / ".ray" / "auth_token").read_text().strip()
        )
        self._choose_ports()

    def _choose_ports(self) -> None:
        self.gcs = f"{_ADDRESS}:{free_port()}"
        self.dashboard = f"http://{_ADDRESS}:{free_port()}"

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to talk to the cluster; nothing of the tests' own."""
        kept = {name: os.environ[name] for name in os.environ if not name.startswith(("RAY_", "PYTHONPATH"))}
        kept["PATH"] = f"{Path(sys.executable).parent}:{kept['PATH']}"
        token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": self.token}
        return (
            kept
            | (token if self.home is None else {"HOME": str(self.home)})
            | {
                "RAY_USAGE_STATS_ENABLED": "0",
                "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
                "RAY_metrics_report_interval_ms": "1000",
                "RAY_health_check_initial_delay_ms": "2000",
                "RAY_health_check_period_ms": "1000",
                "RAY_health_check_failure_threshold": "3",
            }
        )

    def start_head(self, *arguments: str) -> None:
        """Start the head and return when its job server answers."""
        for _ in range(3):
            head = self._start_head(*arguments)
            self._wait(lambda head=head: head.process.poll() is not None or self._is_ready(), "no job server")
            if head.process.poll() is None:
                return
            head.kill()
            self._choose_ports()
        raise TimeoutError(f"The head does not start: {(self.folder / 'head.log').read_text()[-2000:]}")

    def _start_head(self, *arguments: str) -> Node:
        port, dashboard_port = (address.rpartition(":")[2] for address in (self.gcs, self.dashboard))
        return self._start(
            "head", "--head", f"--port={port}", "--num-cpus=0", "--include-dashboard=true",
            f"--dashboard-host={_ADDRESS}", f"--dashboard-port={dashboard_port}",
            f"--temp-dir={self.folder}", f"--ray-client-server-port={free_port()}", *arguments,
        )  # fmt: skip

    def add(self, name: str, *arguments: str) -> Node:
        """Return a node that has joined the head. On a busy machine Ray's own limits (15 s, 30 s) take several attempts."""
        for _ in range(5):
            # Of its own, as on another machine: each node deletes and unpacks the working directory of a job anew.
            folder = f"--temp-dir={self.folder / f'n{len(self.nodes)}'}"
            node = self._start(name, f"--address={self.gcs}", folder, *arguments)
            self._wait(
                lambda node=node: self._has_joined(node) or node.process.poll() is not None, f"no {name}"
            )
            if node.process.poll() is None:
                return node
        raise TimeoutError(f"{name} does not start: {(self.folder / f'{name}.log').read_text()[-2000:]}")

    def _has_joined(self, node: Node) -> bool:
        return any(one["is_alive"] and one["node_name"] == node.name for one in self.list_nodes())

    def _start(self, name: str, *arguments: str) -> Node:
        command = [
            sys.executable, "-c", _RAY_START, "start", "--block", f"--node-name={name}",
            f"--node-ip-address={_ADDRESS}", "--object-store-memory=100000000",
            "--disable-usage-stats", *_agent_ports(), *arguments,
        ]  # fmt: skip
        with open(self.folder / f"{name}.log", "ab") as log:
            process = subprocess.Popen(
                command, env=self.environment, cwd=self.folder, stdout=log, stderr=log, start_new_session=True
            )
        self.nodes[name] = Node(name, process)
        return self.nodes[name]

    def list_nodes(self) -> list[dict]:
        """Return what the dashboard knows of each node."""
        listed = self.get("/api/v0/nodes?limit=100")["data"]["result"]["result"]
        return [{**node, "is_alive": node["state"] == "ALIVE"} for node in listed]

    def get(self, path: str) -> dict:
        """Return the dashboard's answer."""
        request = urllib.request.Request(
            self.dashboard + path, headers={"Authorization": f"Bearer {self.token}"}
        )
        with urllib.request.urlopen(request, timeout=20) as answer:
            return json.loads(answer.read())

    def _is_ready(self) -> bool:
        self.get("/api/version")
        return "Ray runtime started" in (self.folder / "head.log").read_text().rpartition("Local node IP")[2]

    def _wait(self, is_so, complaint: str) -> None:
        deadline_s = time.monotonic() + _START_S
        while True:
            try:
                if is_so():
                    return
            except OSError:
                pass
            if time.monotonic() > deadline_s:
                logs = "\n".join(path.read_text()[-1000:] for path in self.folder.glob("*.log"))
                raise TimeoutError(f"{complaint}:\n{logs}")
            time.sleep(0.5)

    def ray(
        self, *arguments: str, cwd: Path | None = None, timeout_s: float = 240, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run the `ray` command against the cluster."""
        return subprocess.run(
            [RAY, *arguments], env=self.environment | {"RAY_API_SERVER_ADDRESS": self.dashboard} | environment,
            cwd=cwd or self.folder, capture_output=True, text=True, timeout=timeout_s, check=False,
        )  # fmt: skip

    def stop(self) -> None:
        """End every process of every node."""
        for node in self.nodes.values():
            node.kill()
