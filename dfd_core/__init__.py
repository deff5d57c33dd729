"""What is done: a pure library. No Ray, no command line, no environment variables.

`from dfd_core import score_video` scores one video. It is loaded when it is asked for, so that `import dfd_core` takes
no time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dfd_core.one_video import VideoScore, score_video

__all__ = ["VideoScore", "score_video"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from dfd_core import one_video

    return getattr(one_video, name)
