"""`python -m indelible` is the command `indelible`."""

from .cli import main

if __name__ == "__main__":
    main()
