"""What every command has: a place in the parser, and whether it takes flags beyond its own."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any

from switchnorm.errors import InputError

#: `run(options, rest)`: what a command does with its own options, and with what is left of the command line.
Run = Callable[[argparse.Namespace, Sequence[str]], None]


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are `InputError`s."""

    def error(self, message: str) -> None:  # type: ignore[override]
        """Raise instead of ending the process."""
        raise InputError(f"{message}; see `{self.prog} --help`")

    def _print_message(self, message: str, file: Any = None) -> None:
        """Print help or version at once, so that whatever keeps it from being written shows while `main` looks."""
        print(message, end="", file=file, flush=True)


class Commands:
    """The commands of a parser.

    Args:
        parser: of the whole command line.
    """

    def __init__(self, parser: Parser) -> None:
        self._commands: Any = parser.add_subparsers(title="commands", metavar="COMMAND", dest="command", required=True)

    def add(
        self, name: str, run: Run, summary: str, description: str = "", *, flags: Sequence[str] | None = None
    ) -> argparse.ArgumentParser:
        """A new command.

        Args:
            name: of the command.
            run: what it does.
            summary: a line for the list of commands.
            description: what its own help says; the summary if empty.
            flags: those that it takes, to name the nearest one to a wrong one; None takes any.
        """
        command: argparse.ArgumentParser = self._commands.add_parser(
            name,
            help=summary,
            description=description or summary,
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        # For the help alone: `main` imports what is named before anything is parsed.
        command.add_argument(
            "--plugins", metavar="MODULE", help="import a module of your own first; may be repeated (docs/extending.md)"
        )
        command.set_defaults(run=run, flags=flags, own=lambda: _flags(command))
        return command


def _flags(command: argparse.ArgumentParser) -> list[str]:
    """The flags that a command has itself."""
    return [flag for action in command._actions for flag in action.option_strings if flag.startswith("--")]
