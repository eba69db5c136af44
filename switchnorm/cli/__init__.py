"""The command `switchnorm`."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from switchnorm import __version__
from switchnorm.cli import check, checkpoints, evaluate, predict, runs, study, train
from switchnorm.cli.command import Commands, Parser
from switchnorm.config import plugins
from switchnorm.errors import InputError, unknown

#: What is said to who interrupts a command that is not the training of one run.
_HINTS = {**dict.fromkeys(("study", "demo"), "the same command continues"), "check": "nothing was written"}

# Each command imports what it needs when it runs, so that --help and errors appear at once.


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; ends with exit code 2 and one line on bad input."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    hint = ""
    try:
        # Plugins come first: the other arguments may name what they register.
        named, arguments = plugins.split(arguments)
        plugins.load(named)
        options, rest = parser().parse_known_args(arguments)
        if rest and options.flags is not None:
            raise unknown("argument", rest[0], options.flags)
        if options.flags is None:  # a command whose flags make a configuration, which keeps the plugins
            rest += [f"--plugins={name}" for name in named]
        hint = _HINTS.get(options.command, "continue a run with `switchnorm train --resume RUN`")
        options.run(options, rest)
    except InputError as error:
        print(f"switchnorm: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except BrokenPipeError:  # whoever reads the output has had enough, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(141) from None
    except OSError as error:
        print(f"switchnorm: {error.filename or ''}: {error.strerror or error}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print(f"switchnorm: interrupted; {hint}", file=sys.stderr)
        raise SystemExit(130) from None


def parser() -> Parser:
    """The parser of the whole command line, its commands in the order of a reader's first steps."""
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
    runs.add_inspect(commands)
    checkpoints.add(commands)
    study.add(commands)
    runs.add_report(commands)
    return whole
