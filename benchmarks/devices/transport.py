"""OpenSSH as a transport: one shared connection, and errors that say what to do.

The user's own configuration, keys and agent apply, as they do to `ssh` in a terminal.
EDGECIFAR_SSH_CONFIG names another configuration file.
"""

import os
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from edgecifar.runtime.errors import EdgecifarError

_SSH_FAILED = 255  # ssh's own failure; a command's exit status is passed through otherwise
_KILLED, _ENDED = 128 + 9, 128 + 15  # what a shell makes of SIGKILL and SIGTERM
_ALIVE_SECONDS = 5  # between two signs of life
_ALIVE_MISSED = 3
_CONNECT_SECONDS = 10
_CAUSES = (
    (
        r"REMOTE HOST IDENTIFICATION HAS CHANGED|Host key verification failed",
        "its host key isn't the known one: if the device was set up anew, `ssh-keygen -R {host}` "
        "and connect once with ssh",
    ),
    (
        r"Permission denied|Too many authentication failures",
        "it refuses this user and key: check them with `ssh {where}`, `ssh-copy-id {where}` "
        "installs a key",
    ),
    (r"Could not resolve|Name or service not known", "no such host: check the name"),
    (r"Connection refused", "nothing answers at that port: is sshd running there?"),
    (r"timed out|No route to host|Network is unreachable", "it can't be reached: is it on?"),
)


class UnreachableError(EdgecifarError):
    """No connection, or it was lost."""


class RefusedError(EdgecifarError):
    """The host answers, but trust is missing on one side; trying again can't help."""


@dataclass(frozen=True)
class Target:
    """A host as in ssh://user@host:port?python=/path/to/python."""

    spec: str
    host: str
    user: str | None
    port: int | None
    python: str | None

    @property
    def where(self) -> str:
        """The host as ssh's argument."""
        return f"{self.user}@{self.host}" if self.user else self.host


def parse(spec: str) -> Target:
    """Read ssh://[user@]host[:port][?python=PATH].

    Raises:
        EdgecifarError: it is no such address.

    """
    try:
        parts = urlsplit(spec)
        query, port = parse_qs(parts.query), parts.port
        wrong = parts.path.strip("/") or set(query) - {"python"} or parts.password
        wrong = wrong or not parts.hostname or parts.hostname.startswith("-")
    except ValueError:  # the brackets of an IPv6 address, or the port
        wrong = True
    if wrong:
        raise EdgecifarError(f"{spec} is no address: give ssh://[user@]host[:port]")
    # urlsplit's own host name is in lower case, and a Host of ssh's configuration need not be.
    host = parts.netloc.rpartition("@")[2]
    host = re.sub(r":\d+$", "", host).strip("[]").replace("%25", "%")  # of an interface
    return Target(spec, host, parts.username, port, (query.get("python") or [None])[0])


class Connection:
    """A connection that all commands to one host share; use it in a `with` statement."""

    def __init__(self, target: Target):
        if not shutil.which("ssh"):
            raise EdgecifarError("ssh:// devices need OpenSSH: install its client")
        self.target = target
        # Short: a socket's path may have 104 characters, and ssh adds 57.
        self._folder = tempfile.mkdtemp(prefix="ecf-", dir="/tmp" if os.name == "posix" else None)
        self._number = 0

    def __enter__(self) -> "Connection":
        return self

    def __exit__(self, *_: object) -> None:
        self._close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def reconnect(self) -> None:
        """Leave the shared connection, which may be dead; the next command makes a new one."""
        self._close()
        self._number += 1

    def run(
        self,
        script: str,
        *,
        source: Path | None = None,
        on_line: Callable[[str], object] | None = None,
    ) -> str:
        """Run a shell script there and return its standard output.

        ``source`` becomes its standard input; ``on_line`` gets each line as it comes.

        Raises:
            UnreachableError: the connection failed or broke.
            RefusedError: a key was refused, by either side.
            EdgecifarError: the script failed, with the last line that it said.

        """
        command = [*self._ssh(), "--", self.target.where, f"sh -c {shlex.quote(script)}"]
        with (
            source.open("rb") if source else open(os.devnull, "rb") as stdin,
            tempfile.TemporaryFile() as stderr,
            subprocess.Popen(
                command, stdin=stdin, stdout=subprocess.PIPE, stderr=stderr, text=True,
                errors="replace",
            ) as process,
        ):  # fmt: skip
            lines = []
            try:
                for line in process.stdout:
                    lines.append(line)
                    if on_line:
                        on_line(line)
                status = process.wait()
            except BaseException:
                process.terminate()
                raise
            stderr.seek(0)
            said = stderr.read().decode(errors="replace")
        if status:
            raise self._error(status, said)
        return "".join(lines)

    def _ssh(self) -> list[str]:
        options = {
            "BatchMode": "yes",
            "ConnectTimeout": _CONNECT_SECONDS,
            "ServerAliveInterval": _ALIVE_SECONDS,
            "ServerAliveCountMax": _ALIVE_MISSED,
            "ControlMaster": "auto",
            "ControlPath": f"{self._folder}/{self._number}-%C",
            "ControlPersist": 60,
        }
        command = ["ssh", *(f"-o{key}={value}" for key, value in options.items())]
        if config := os.environ.get("EDGECIFAR_SSH_CONFIG"):
            command += ["-F", config]
        return [*command, *(["-p", str(self.target.port)] if self.target.port else [])]

    def _close(self) -> None:
        subprocess.run(
            [*self._ssh(), "-O", "exit", "--", self.target.where],
            capture_output=True, stdin=subprocess.DEVNULL, check=False,
        )  # fmt: skip

    def _error(self, status: int, said: str) -> EdgecifarError:
        lines = [line.strip() for line in said.splitlines() if line.strip()]
        last = lines[-1] if lines else "no reason given"
        if status != _SSH_FAILED:
            if "No space left on device" in said:
                return EdgecifarError("its disk is full: free some space there and run it again")
            if status == _KILLED:
                return EdgecifarError(
                    "its system killed it, most likely for want of memory: close other programs "
                    "there, or bench fewer or smaller files at once"
                )
            if status == _ENDED:
                return UnreachableError("its system ended it, as when it shuts down")
            return EdgecifarError(f"{last} (exit status {status})")
        for pattern, advice in _CAUSES:
            if re.search(pattern, said):
                host, where, port = self.target.host, self.target.where, self.target.port
                if port:
                    host, where = f"'[{host}]:{port}'", f"-p {port} {where}"
                told = advice.format(host=host, where=where)
                kind = RefusedError if "key" in advice else UnreachableError
                return kind(f"{told} ({last})")
        return UnreachableError(f"the connection broke ({last})")
