"""A child process that videos are worked on in: confined, limited in time and memory, and never trusted.

`sandbox` is the front. `parent` starts and watches the process, `child` is its main loop, `channel` and `answer` are what
crosses between the two, `confine`, `seccomp` and `landlock` take the child's rights away.
"""

from dfd_core.stages.sandbox.sandbox import Sandbox

__all__ = ["Sandbox"]
