"""`python -m edgecifar.runtime` is the command `edgecifar`."""

from edgecifar.runtime.commands import program

if __name__ == "__main__":
    program()
