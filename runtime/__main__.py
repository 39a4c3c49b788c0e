"""`python -m edgecifar.runtime` is the command `edgecifar`."""

from edgecifar.runtime.commands import main

if __name__ == "__main__":
    main(prog_name="edgecifar")
