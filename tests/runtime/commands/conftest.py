import pytest
from click.testing import CliRunner

from edgecifar.runtime.commands import main


@pytest.fixture
def edgecifar():
    """Call the command line with arguments; the result has exit_code, stdout and stderr."""

    def call(*arguments, input=None):
        return CliRunner().invoke(main, [str(a) for a in arguments], input=input)

    return call


@pytest.fixture
def fails(edgecifar):
    """Call the command line and return the one line of its error, checking exit status 1."""

    def call(*arguments):
        result = edgecifar(*arguments)
        assert result.exit_code == 1, result.output
        assert result.stderr.startswith("Error: ")
        assert result.stderr.count("\n") == 1
        return result.stderr

    return call
