"""Four ways through the packets of an open video to the wanted frames.

Each takes `due`, the wanted positions with the next one last, and removes those that it yields.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from dfd_core.video.facts import Frame
from dfd_core.video.index import FramePosition
from dfd_core.video.opened import OpenedVideo

_MAX_WAITING_BYTES = 1 << 25


def needed_only(video: OpenedVideo, due: list[FramePosition], seeks: bool) -> Iterator[Frame]:
    """Yield the frames at `due`, decoding no more than they need.

    Packets wait until a wanted frame may need them; a keyframe before that drops them. Stops at anything that a whole
    video does not hold.
    """
    unsent = [_pts(position) for position in due]
    wanted = set(unsent)
    waiting: list[Packet[VideoStream]] = []
    waiting_bytes = 0
    for packet in video.packets_from(unsent[-1], seeks):
        if waiting and video.can_start(packet, unsent[-1]) and not any(map(_changes_decoder, waiting)):
            yield from _those_due(video, video.restart(packet, has_due=len(due) > len(unsent)), due)
            waiting, waiting_bytes = [], 0
        waiting.append(packet)
        waiting_bytes += packet.size
        is_wanted = packet.pts in wanted and not packet.is_discard
        if is_wanted or waiting_bytes > _MAX_WAITING_BYTES:
            for earlier in waiting:
                yield from _those_due(video, video.decode(earlier, is_needed=earlier.pts in wanted), due)
            waiting, waiting_bytes = [], 0
        if is_wanted:
            unsent.remove(packet.pts)  # type: ignore[arg-type]
        if not unsent:
            yield from _those_due(video, video.decode(None), due)
        if not unsent or video.is_broken:
            return


def keyframes_only(video: OpenedVideo, due: list[FramePosition], seeks: bool) -> Iterator[Frame]:
    """Yield the frames at `due`, all of them keyframes, decoding no other.

    Stops at anything that a whole video does not hold, and at a frame that needs more than its own packet.
    """
    for packet in video.packets_from(_pts(due[-1]), seeks):
        if packet.pts == due[-1].pts and not packet.is_discard:
            num_due = len(due)
            if video.can_start(packet, _pts(due[-1])):
                video.restart(packet, has_due=False)
                yield from _those_due(video, [*video.decode(packet), *video.decode(None)], due)
            if not due or len(due) == num_due:
                return
        elif _changes_decoder(packet):
            return


def by_timestamp(video: OpenedVideo, due: list[FramePosition], seeks: bool) -> Iterator[Frame]:
    """Yield the frames at `due` by their timestamps, decoding everything; missing ones stay in `due`."""
    at = len(due) - 1
    for frame in video.frames(video.packets_from(_pts(due[-1]), seeks)):
        while at >= 0 and frame.pts is not None and _pts(due[at]) < frame.pts:
            at -= 1
        if at >= 0 and frame.pts == due[at].pts:
            yield video.frame_at(due.pop(at), frame)
            at -= 1
        if at < 0:
            return


def by_counting(video: OpenedVideo, due: list[FramePosition]) -> Iterator[Frame]:
    """Yield the frames at `due` by counting from the video's first; missing ones stay in `due`."""
    for index, frame in enumerate(video.frames(video.packets())):
        if index == due[-1].index:
            yield video.frame_at(due.pop(), frame)
        if not due:
            return


def _those_due(video: OpenedVideo, frames: Iterable[VideoFrame], due: list[FramePosition]) -> Iterator[Frame]:
    """Yield those of `frames` that are next in `due`, unless something is broken."""
    for frame in frames:
        if due and frame.pts == due[-1].pts and not video.is_broken:
            yield video.frame_at(due.pop(), frame)


def _pts(position: FramePosition) -> int:
    assert position.pts is not None
    return position.pts


def _changes_decoder(packet: Packet[VideoStream]) -> bool:
    """Return whether packets after this one cannot be decoded without it, keyframes or not."""
    return packet.has_sidedata("new_extradata") or packet.has_sidedata("param_change")
