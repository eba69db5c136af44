"""The command `switchnorm`."""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import sys
from collections.abc import Sequence

from switchnorm import __version__, signals
from switchnorm.cli.command import Commands, Parser
from switchnorm.cli.ending import complain, complain_unexpected, lost_output, open_streams, plain_warnings
from switchnorm.config import plugins
from switchnorm.config.elsewhere import UnknownFlagError
from switchnorm.config.keys import check_once
from switchnorm.errors import OF_TRAIN, InputError, not_installed, unknown
from switchnorm.processes import first_to_say
from switchnorm.runs.reading import run_of

# What takes time to import is imported where signals are heard: the commands by `parser`, and what each of them needs
# as it runs, so that --help and errors appear at once.


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; ends with exit code 2 and one line on bad input, with 1 on a fault of its own."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if os.environ.get("_ARGCOMPLETE"):  # a shell asks how the line may go on
        from switchnorm.cli.completion import complete

        complete(parser())
    open_streams()
    hint, ending = "", signals.Ending()
    try:
        with ending, plain_warnings():
            # Plugins come first: the other arguments may name what they register.
            named, arguments = plugins.split(arguments)
            plugins.load(named)
            check_once(arguments)
            options, rest = parser().parse_known_args(arguments)
            if rest and options.flags is not None:
                raise unknown("argument", rest[0], options.flags)
            if options.flags is None:  # a command whose flags make a configuration, which keeps the plugins
                rest += [f"--plugins={name}" for name in named]
            hint = _hint(options)
            try:
                options.run(options, rest)
            except UnknownFlagError as error:
                raise error.among(options.own()) from error
            sys.stdout.flush()  # whatever keeps the output from being written shows here, and not as Python ends
    except (Exception, KeyboardInterrupt) as error:
        if ending.raised and not isinstance(error, KeyboardInterrupt):  # a library has made another error of it
            error = signals.Interrupted(ending.received)
        raise SystemExit(_exit_code(error, hint)) from None


def _exit_code(error: Exception | KeyboardInterrupt, hint: str) -> int:
    """Say in a line why a command ended; the hint is for one that was interrupted."""
    if isinstance(error, ModuleNotFoundError) and error.name in OF_TRAIN:
        error = not_installed((error.name,), "the command `switchnorm`")
    if isinstance(error, InputError):
        _complain_once(str(error))
        return 2
    if isinstance(error, KeyboardInterrupt):
        signals.forget()
        ended = error if isinstance(error, signals.Interrupted) else signals.Interrupted(signal.SIGINT)
        _complain_once(f"interrupted; {ended.said or hint}".removesuffix("; "))
        return ended.exit_code
    lost = lost_output() if isinstance(error, OSError) and error.filename is None else None
    if isinstance(lost, BrokenPipeError):  # whoever reads the output has had enough, as `head` has
        return 141
    if lost is not None:
        complain(f"standard output cannot be written: {lost.strerror}")
        return 2
    if isinstance(error, OSError) and error.filename is not None:
        complain(f"{error.filename}: {error.strerror or error}")
        return 2
    if isinstance(error, FileNotFoundError) and not _stands_somewhere():
        complain("the current folder was removed; change to another one")
        return 2
    complain_unexpected(error)
    return 1


def _stands_somewhere() -> bool:
    """Whether the current folder exists."""
    try:
        os.getcwd()
    except FileNotFoundError:
        return False
    return True


def _hint(options: argparse.Namespace) -> str:
    """What to do after an interruption of a command that has not said so itself."""
    if options.command in ("study", "demo") or getattr(options, "seeds", None) or getattr(options, "cluster", None):
        return "the same command continues"
    if options.command != "train" or options.dry_run:
        return ""
    if options.resume is not None:
        if run_of(options.resume) is None:  # so that there is nothing to continue
            return ""
        return f"continue with `switchnorm train --resume {shlex.quote(str(options.resume))}`"
    return "nothing was saved, for the first step was not done"


def _complain_once(line: str) -> None:
    """Print why the process ends, once of all that torchrun started."""
    if first_to_say(line):
        complain(line)


def parser() -> Parser:
    """The parser of the whole command line, its commands in the order of a reader's first steps."""
    from switchnorm.cli import check, checkpoints, evaluate, export, predict, push, runs, study, train

    whole = Parser(
        prog="switchnorm",
        description="Train networks with any normalization at any batch geometry, and see what every layer chose.",
        allow_abbrev=False,
    )
    whole.add_argument("--version", action="version", version=f"switchnorm {__version__}")
    commands = Commands(whole)
    study.add_demo(commands)
    check.add(commands)
    train.add(commands)
    evaluate.add(commands)
    predict.add(commands)
    export.add(commands)
    push.add(commands)
    runs.add_inspect(commands)
    checkpoints.add(commands)
    study.add(commands)
    runs.add_report(commands)
    return whole
