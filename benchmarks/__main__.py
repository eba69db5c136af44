"""The command line; a study of a borrowed machine first says what that lacks, since nothing could be imported there."""

import sys

from benchmarks.gpu import requirements

if __name__ == "__main__":
    if sys.argv[1:2] == ["gpu"]:
        requirements.check()
    from benchmarks.command import SUITES, main
    from benchmarks.pages import keep_pages

    # Suites are timings; studies measure memory too, and what networks answer.
    main(sys.argv[1:], pages_kept=any(name in SUITES for name in sys.argv[1:2]) and keep_pages())
