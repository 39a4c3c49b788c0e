"""What the whole project raises for a mistake that its user can mend."""


class EdgecifarError(Exception):
    """What is wrong and how to mend it, on one line: ``"what is wrong: mend"``.

    The command line prints it after ``Error:`` and exits with 1, without a traceback.
    """


class NoInterpreterError(EdgecifarError):
    """No interpreter for a kind of file works here, whatever the file is."""
