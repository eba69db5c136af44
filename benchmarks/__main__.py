"""The command line; a study of a borrowed machine first says what that lacks, since nothing could be imported there."""

import sys

from benchmarks.gpu import requirements

if __name__ == "__main__":
    if sys.argv[1:2] == ["gpu"]:
        requirements.check()
    from benchmarks.command import main

    main(sys.argv[1:])
