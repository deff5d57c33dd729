"""What a video does that has taken over the process which decodes it: one function an attack, each run inside the child.

An attack returns what it got hold of, or raises OSError where it was refused.
"""

from __future__ import annotations

import ctypes
import errno
import io
import mmap
import os
import resource
import signal
import socket
import subprocess
import threading
from collections.abc import Callable
from typing import Any, BinaryIO, Self

from benchmarks.forgeries import FORGERIES
from benchmarks.prey import Prey
from dfd_core.errors import VideoUnreadableError
from dfd_core.video.opening import open_video

_PTRACE_ATTACH, _PROCESS_VM_READV, _X32_SOCKET = 16, 310, 0x40000000 | 41


def connect(prey: Prey) -> str:
    with socket.socket() as connection:
        connection.connect(("127.0.0.1", prey.port))
    return "a connection"


def bind(prey: Prey) -> str:
    with socket.socket() as server:
        server.bind(("0.0.0.0", 0))
        return f"port {server.getsockname()[1]}"


def unix_socket(prey: Prey) -> str:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect("\0anything")
    return "a socket"


def socket_of_another_kind_of_call(prey: Prey) -> str:
    return _call(_X32_SOCKET, socket.AF_INET, socket.SOCK_STREAM, 0)


def execute(prey: Prey) -> str:
    os.execv("/bin/sh", ["sh", "-c", f"echo > {prey.marker_path}"])


def run_a_program(prey: Prey) -> str:
    return subprocess.run(["/bin/sh", "-c", f"echo > {prey.marker_path}"], check=True).args[0]


def fork_bomb(prey: Prey) -> str:
    for _ in range(20):
        if os.fork() == 0:
            os._exit(0)
    return "20 processes"


def start_a_thread(prey: Prey) -> str:
    try:
        threading.Thread(target=int).start()
    except RuntimeError as refusal:
        raise OSError(errno.EPERM, str(refusal)) from refusal
    return "a thread"


def write_a_file(prey: Prey) -> str:
    with open(prey.marker_path, "w") as file:
        file.write("here")
    return prey.marker_path


def write_memory_as_a_file(prey: Prey) -> str:
    return f"descriptor {os.memfd_create('anything')}"


def change_the_video(prey: Prey) -> str:
    descriptor = _descriptor_of(prey.video_path)
    return f"{os.write(descriptor, b'other bytes')} bytes"


def open_the_video_again_for_writing(prey: Prey) -> str:
    with open(f"/proc/self/fd/{_descriptor_of(prey.video_path)}", "r+b") as file:
        return f"{file.write(b'other bytes')} bytes"


def delete_a_file(prey: Prey) -> str:
    os.unlink(prey.secret_path)
    return prey.secret_path


def read_passwords(prey: Prey) -> str:
    with open("/etc/passwd") as file:
        return file.read(40)


def read_a_file(prey: Prey) -> str:
    with open(prey.secret_path) as file:
        return file.read()


def list_a_folder(prey: Prey) -> str:
    return str(os.listdir("/"))


def read_the_environment(prey: Prey) -> str:
    if prey.secret in os.environ.values():
        return "the secret, in os.environ"
    for path in ("/proc/self/environ", f"/proc/{prey.parent_pid}/environ"):
        with open(path, "rb") as file:
            if prey.secret.encode() in file.read():
                return f"the secret, in {path}"
    raise OSError("no secret in it")


def attach_to_the_parent(prey: Prey) -> str:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.ptrace(_PTRACE_ATTACH, prey.parent_pid, 0, 0):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return "the parent"


def read_the_parents_memory(prey: Prey) -> str:
    return _call(_PROCESS_VM_READV, prey.parent_pid, 0, 0, 0, 0, 0)


def open_the_parents_memory(prey: Prey) -> str:
    with open(f"/proc/{prey.parent_pid}/mem", "rb") as file:
        return file.name


def kill_the_parent(prey: Prey) -> str:
    os.kill(prey.parent_pid, signal.SIGUSR1)
    return "a signal"


def kill_everyone(prey: Prey) -> str:
    os.kill(-1, signal.SIGCONT)
    return "a signal"


def raise_a_limit(prey: Prey) -> str:
    try:
        resource.setrlimit(resource.RLIMIT_NPROC, (100, 100))
    except ValueError as refusal:
        raise OSError(errno.EPERM, str(refusal)) from refusal
    return "100 processes"


def make_code(prey: Prey) -> str:
    with mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC) as memory:
        return f"{len(memory)} bytes of code"


def use_rings(prey: Prey) -> str:
    return _call(425, 8, 0)  # io_uring_setup


def use_the_keyring(prey: Prey) -> str:
    return _call(250, 0, -3, 0)


def leave_the_namespaces(prey: Prey) -> str:
    return _call(272, 0x10000000)  # unshare


def load_a_program_into_the_kernel(prey: Prey) -> str:
    return _call(321, 0, 0, 0)  # bpf


def become_root_again(prey: Prey) -> str:
    os.setuid(0)
    return "user 0"


def change_the_root(prey: Prey) -> str:
    os.chroot("/tmp")
    return "/tmp"


def _call(number: int, *arguments: int) -> str:
    libc = ctypes.CDLL(None, use_errno=True)
    result = libc.syscall(ctypes.c_long(number), *map(ctypes.c_long, arguments))
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return f"call {number} returned {result}"


def _descriptor_of(path: str) -> int:
    wanted = os.stat(path)
    for descriptor in range(3, 1000):
        try:
            found = os.fstat(descriptor)
        except OSError:
            continue
        if (found.st_dev, found.st_ino) == (wanted.st_dev, wanted.st_ino):
            return descriptor
    raise OSError("the video is not open")


RIGHTS: tuple[Callable[[Prey], str], ...] = (
    *(connect, bind, unix_socket, socket_of_another_kind_of_call),
    *(execute, run_a_program, fork_bomb, start_a_thread),
    *(
        write_a_file,
        write_memory_as_a_file,
        change_the_video,
        open_the_video_again_for_writing,
        delete_a_file,
    ),
    *(read_passwords, read_a_file, list_a_folder, read_the_environment),
    *(attach_to_the_parent, read_the_parents_memory, open_the_parents_memory, kill_the_parent, kill_everyone),
    *(raise_a_limit, make_code, use_rings, use_the_keyring, leave_the_namespaces),
    *(load_a_program_into_the_kernel, become_root_again, change_the_root),
)
ATTACKS: dict[str, Callable[[Prey], Any]] = {attack.__name__: attack for attack in (*RIGHTS, *FORGERIES)}


class AttackingVideo(io.BytesIO):
    """A video that travels to the child as it is, and attacks when it is opened there."""

    def __init__(self, name: str, prey: Prey, file: Any) -> None:
        super().__init__()
        self._facts = name, prey, file

    def __reduce__(self) -> tuple[Any, ...]:
        return AttackingVideo, self._facts

    def __enter__(self) -> Self:
        name, prey, _ = self._facts
        try:
            got = ATTACKS[name](prey)
        except OSError as refusal:
            raise VideoUnreadableError(f"refused: {refusal}") from refusal
        raise VideoUnreadableError(f"GOT {got}")

    def close(self) -> None:
        self._facts[2].close()
        super().close()


def attacking(address: str, *, prey: Prey) -> BinaryIO:
    """Open `attack:NAME`, or the video at another address."""
    scheme, _, name = address.partition(":")
    file = open_video(prey.video_path)
    return AttackingVideo(name, prey, file) if scheme == "attack" else file
