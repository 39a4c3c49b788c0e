"""What programs have in common that are run as `python -m edgecifar.benchmarks.ROOM.NAME`."""

import click

from edgecifar.runtime.commands import is_broken_pipe, one_line
from edgecifar.runtime.errors import EdgecifarError


class Program(click.Command):
    """A command whose errors are one line and exit status 1, as those of `edgecifar` are."""

    def invoke(self, ctx: click.Context) -> object:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except (EdgecifarError, OSError) as error:
            if is_broken_pipe(error):
                raise
            raise click.ClickException(one_line(error)) from error
