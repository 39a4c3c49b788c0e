"""What a compression step came to, as a table for the terminal."""

from edgecifar.compress.verdict import Verdict
from edgecifar.train.console import plain_console


def print_verdict(verdict: Verdict) -> None:
    """Print a step's figures before and after, and its verdict in a line."""
    from rich.table import Table

    table = Table("", *(side.name for side in verdict.sides), title="before and after")
    for row in verdict.rows():
        table.add_row(*row)
    console = plain_console()
    console.print(table)
    console.print(verdict.text, soft_wrap=True)
