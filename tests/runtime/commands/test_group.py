from importlib.metadata import entry_points

import click
import pytest

from edgecifar.runtime import commands
from edgecifar.runtime.errors import EdgecifarError


@pytest.fixture
def failing(monkeypatch):
    """Install a command `boom` that raises what it is given."""

    def install(error):
        @click.command()
        def boom():
            """Fail."""
            raise error

        class Point:
            name = "boom"

            def load(self):
                return boom

        monkeypatch.setattr(commands, "_plugins", lambda: {"boom": Point()})

    return install


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (EdgecifarError("this is wrong: mend it"), 1, "Error: this is wrong: mend it\n"),
        (EdgecifarError("two\nlines"), 1, "Error: two lines\n"),
        (OSError(28, "No space left", "/x/y"), 1, "Error: no space left on the disk (/x/y): free"),
        (PermissionError(13, "Permission denied", "/x"), 1, "Error: Permission denied (/x)\n"),
        (KeyboardInterrupt(), 130, "Interrupted.\n"),
        (
            ZeroDivisionError("oh"),
            1,
            "Error: unexpected ZeroDivisionError (oh): `edgecifar --debug`",
        ),
        (click.UsageError("wrong"), 2, "Error: wrong\n"),
    ],
)
def test_errors_become_one_line(edgecifar, failing, error, status, message):
    failing(error)
    result = edgecifar("boom")
    assert result.exit_code == status
    assert message in result.stderr
    assert "Traceback" not in result.output


def test_debug_shows_the_traceback(edgecifar, failing):
    failing(EdgecifarError("wrong"))
    assert isinstance(edgecifar("--debug", "boom").exception, EdgecifarError)


def test_unknown_commands(edgecifar, fails, monkeypatch):
    result = edgecifar("clasify")
    assert result.exit_code == 2
    assert "Did you mean 'classify'?" in result.stderr
    monkeypatch.setattr(commands, "_plugins", dict)
    assert "install edgecifar there" in fails("train")


def test_a_device_knows_all_commands_of_the_workstation():
    """Those that are missing there are told from mistyped ones."""
    installed = {point.name for point in entry_points(group="edgecifar.commands")}
    assert installed == commands._WORKSTATION


def test_a_plugin_that_cannot_be_imported(edgecifar, fails, monkeypatch):
    class Broken:
        name = "train"

        def load(self):
            raise ModuleNotFoundError("No module named 'tensorflow'")

    monkeypatch.setattr(commands, "_plugins", lambda: {"train": Broken()})
    assert "No module named 'tensorflow'" in fails("train")
    result = edgecifar("--help")
    assert result.exit_code == 0
    assert "classify" in result.stdout


def test_help_of_every_own_command(edgecifar):
    for name in commands._OURS:
        result = edgecifar(name, "-h")
        assert result.exit_code == 0
        assert result.stdout.startswith("Usage: ")
