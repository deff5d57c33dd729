"""What every command has in common: its examples, `--json`, and how it shows its result."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import click

_AS_JSON = "dfd.json"


class _Command(click.Command):
    """A command whose examples name the program as it was called: `dfd NAME`, or `python jobs/NAME.py`."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        called = ctx.command_path if ctx.parent else f"python {ctx.info_name}"
        formatter.write_paragraph()
        with formatter.section("Examples"):
            for line in (self.epilog or "").replace("dfd NAME", called).splitlines():
                formatter.write(f"{' ' * formatter.current_indent}{line}\n")


def command(examples: str) -> Callable[[Callable[..., Any]], click.Command]:
    """Return a decorator that makes a click command with `--json`, whose help ends in examples.

    Args:
        examples: One shell command a line, in which `dfd NAME` stands for this command.
    """

    def decorate(function: Callable[..., Any]) -> click.Command:
        made = click.command(cls=_Command, epilog=examples.strip())(function)
        made.params.append(
            click.Option(
                ["--json"],
                is_flag=True,
                expose_value=False,
                callback=_remember,
                help="Print the summary as one JSON object.",
            )
        )
        return made

    return decorate


def _remember(context: click.Context, _: click.Parameter, value: bool) -> None:
    context.meta[_AS_JSON] = value


def wants_json() -> bool:
    """Return whether the running command was given `--json`."""
    context = click.get_current_context(silent=True)
    return context is not None and bool(context.meta.get(_AS_JSON))


def print_result(values: Mapping[str, Any], print_text: Callable[[], None]) -> None:
    """Print a command's result to standard output: `values` with `--json`, else what `print_text` prints."""
    if wants_json():
        click.echo(json.dumps(values, allow_nan=False))
    else:
        print_text()
