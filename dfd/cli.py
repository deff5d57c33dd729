"""The command line: `dfd NAME ...`, and the same as `python jobs/NAME.py ...`."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

import click
from click.shell_completion import CompletionItem

from dfd.cluster.runtime import quiet_libraries

COMMANDS = {
    "score": "Score an archive: videos or pictures of faces.",
    "manifest": "Write the manifest of a labelled dataset.",
    "faces": "Cut the faces out of an archive once.",
    "finetune": "Fine-tune a detector on labelled faces.",
    "evaluate": "Judge scores against labels.",
    "compare": "Compare two runs of the same videos.",
    "review": "Make a page to look at scores.",
    "report": "Write the report of one video to hand over.",
    "aggregate": "Derive the tables of a finished run again.",
    "verify": "Check a finished run against its recorded hashes.",
    "duplicates": "Find the copies of one clip in a finished run.",
    "export": "Write the tables of a finished run for other programs.",
    "demo-archive": "Make short clips to try the program on.",
}
"""Every command and its help in one line. The module is `dfd.commands.NAME`, loaded when the command is used."""


def load_command(name: str) -> click.Command:
    """Return the click command called `name`."""
    module = importlib.import_module(f"dfd.commands.{name.replace('-', '_')}")
    command = module.main
    assert isinstance(command, click.Command)
    return command


class _LazyGroup(click.Group):
    """A group whose commands are imported when they are used: Ray and TensorFlow take seconds to load."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return load_command(cmd_name) if cmd_name in COMMANDS else None

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Return the options and the commands that begin with `incomplete`; no command is imported."""
        names = [name for name in COMMANDS if name.startswith(incomplete)]
        options = click.Command.shell_complete(self, ctx, incomplete)
        return [*(CompletionItem(name, help=COMMANDS[name]) for name in names), *options]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.command(cls=_LazyGroup)
@click.version_option(package_name="dfd", message="%(prog)s %(version)s")
def main() -> None:
    """Tell which videos of a large archive are deepfakes.

    `dfd NAME --help` describes a command and ends in examples. A cluster runs the same commands as scripts:
    python jobs/NAME.py.
    """


def run(arguments: Sequence[str] | None = None) -> None:
    """Run `dfd ARGUMENTS`, by default those of this process, and end the process with the exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    quiet_libraries(verbose="--verbose" in arguments)
    main.main(args=_explicit(arguments), prog_name="dfd")


def run_command(name: str, prog_name: str, arguments: Sequence[str] | None = None) -> None:
    """Run the one command called `name`; the usage line calls it `prog_name`."""
    arguments = sys.argv[1:] if arguments is None else arguments
    quiet_libraries(verbose="--verbose" in arguments)
    load_command(name).main(args=_explicit(arguments), prog_name=prog_name)


def _explicit(arguments: Sequence[str]) -> list[str]:
    """Return `arguments` with the value of a bare --retry-failed: click would take the next argument for it."""
    return ["--retry-failed=all" if argument == "--retry-failed" else argument for argument in arguments]
