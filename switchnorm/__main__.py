"""`python -m switchnorm` is the command `switchnorm`."""

from switchnorm.cli import main

if __name__ == "__main__":
    main()
