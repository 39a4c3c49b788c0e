"""The command ``edgecifar``: this distribution's commands and those that plug into it.

Commands are imported when they are called. Those of the workstation come from the
entry-point group ``edgecifar.commands``, whose values are click commands.
"""

from __future__ import annotations

import errno
import gc
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any, NoReturn

import click

from edgecifar.runtime import __version__
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.runtime.tables import printable

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

_OURS = ("bench", "classify", "doctor", "info", "sign", "verify")
_WORKSTATION = frozenset(
    [
        "ahead",
        "compare",
        "data",
        "demo",
        "distil",
        "evaluate",
        "export",
        "models",
        "prune",
        "quantize",
        "report",
        "run",
        "search",
        "sensitivity",
        "train",
    ]
)
_COLLECT_AFTER = 50_000  # new objects; after Python's 700 it would search all modules as they load
_INTERRUPTED = 130  # what a shell reports for a process ended by SIGINT


class CommandGroup(click.Group):
    """A click group that loads its commands late and prints our errors on one line."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of all commands that are installed."""
        return sorted({*_OURS, *_plugins()})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return the command, or None if no installed package has it."""
        if cmd_name in _OURS:
            return getattr(import_module(f"{__name__}.{cmd_name}"), cmd_name)
        plugin = _plugins().get(cmd_name)
        return _load(plugin) if plugin else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, or say which package has it or what it may have meant."""
        name = args[0]
        if self.get_command(ctx, name) is None and not name.startswith("-"):
            if name in _WORKSTATION:
                raise EdgecifarError(
                    f"'{name}' is a workstation command: install edgecifar there, of which this is "
                    "the runtime alone"
                )
            import difflib

            known = {*self.list_commands(ctx), *_WORKSTATION}
            near = difflib.get_close_matches(name, known, n=1)
            hint = f" Did you mean '{near[0]}'?" if near else ""
            ctx.fail(f"No such command '{name}'.{hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands; one that can't be loaded doesn't take the help with it."""
        rows = []
        for name in self.list_commands(ctx):
            try:
                command = self.get_command(ctx, name)
                rows.append((name, command.get_short_help_str(90) if command else ""))
            except Exception as error:  # such as what a broken library raises
                rows.append((name, f"({printable(one_line(error))})"))
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; turn what users can mend into one line and an exit status."""
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except (Exception, KeyboardInterrupt) as error:
            if ctx.params.get("debug") or is_broken_pipe(error):
                raise
            _explain(error)


@click.group(cls=CommandGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="edgecifar")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def main(debug: bool) -> None:
    """Train, compress, measure and run image classifiers for low-power devices."""


def program() -> None:
    """Run `main` as a process of its own, which starts and ends sooner.

    Nearly all that imports create lives as long as the process does, so that the garbage collector
    seeks in vain among it: it is called less often, and doesn't look at it again at the end.
    """
    gc.set_threshold(_COLLECT_AFTER)
    _allow_any_file_name()
    try:
        main(prog_name="edgecifar")
    finally:
        gc.freeze()


def _allow_any_file_name() -> None:
    """Let names that aren't UTF-8 be printed escaped, as they are in JSON, and not end the run."""
    if getattr(sys.stdout, "errors", None) == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")


def _explain(error: BaseException) -> NoReturn:
    if isinstance(error, KeyboardInterrupt):
        click.echo("Interrupted.", err=True)
        raise click.exceptions.Exit(_INTERRUPTED) from None
    raise click.ClickException(printable(one_line(error))) from None


def one_line(error: BaseException) -> str:
    """Say what went wrong, and where, in one line."""
    if isinstance(error, OSError) and error.errno is not None:
        if error.errno == errno.ENOSPC:
            return f"no space left on the disk{_on(error)}: free some and run it again"
        return f"{error.strerror}{_on(error)}"
    text = " ".join(str(error).split())
    if isinstance(error, EdgecifarError):
        return text
    if isinstance(error, ImportError):
        return f"a library doesn't work here ({text}): `edgecifar doctor` says why"
    return f"unexpected {type(error).__name__} ({text}): `edgecifar --debug` shows where"


def _on(error: OSError) -> str:
    return f" ({error.filename})" if error.filename else ""


def is_broken_pipe(error: BaseException) -> bool:
    """Whether nobody reads on what is printed: click knows what to do."""
    return isinstance(error, OSError) and error.errno == errno.EPIPE


def _plugins() -> dict[str, EntryPoint]:
    from importlib.metadata import entry_points  # 15 ms that our own commands never pay

    return {point.name: point for point in entry_points(group="edgecifar.commands")}


def _load(plugin: EntryPoint) -> click.Command:
    try:
        return plugin.load()
    except (ImportError, AttributeError) as error:  # not installed, or of another version
        raise EdgecifarError(
            f"'{plugin.name}' can't be loaded ({error}): install edgecifar again"
        ) from error
