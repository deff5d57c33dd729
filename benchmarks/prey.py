"""What the attacks of `drill_attack` are after."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Prey:
    """What the attacks are after; all of it lies in the parent.

    Attributes:
        port: Of a server on loopback that notes every connection.
        secret_path: A file that everyone may read.
        secret: Its content, and the value of an environment variable of the parent.
        marker_path: A file that must not come to be.
        parent_pid: The parent.
        video_path: The video itself.
    """

    port: int
    secret_path: str
    secret: str
    marker_path: str
    parent_pid: int
    video_path: str
