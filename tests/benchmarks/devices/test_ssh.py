import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import venv
from pathlib import Path
from types import SimpleNamespace

import pytest

from edgecifar.benchmarks.devices import ssh
from edgecifar.benchmarks.devices.fleet import bench_on
from edgecifar.benchmarks.devices.parcel import pack
from edgecifar.benchmarks.devices.transport import Connection, UnreachableError, parse
from edgecifar.runtime import results
from edgecifar.runtime.benchmark import Settings, bench
from edgecifar.runtime.errors import EdgecifarError
from edgecifar.runtime.files import try_lock
from edgecifar.runtime.shipped import default_model
from edgecifar.runtime.timing import TimingPlan

QUICK = Settings(plan=TimingPlan(rounds=3, slice_ms=1, warm_up_ms=2), energy=False)
LONG = Settings(plan=TimingPlan(rounds=40, slice_ms=40, warm_up_ms=2), energy=False)
HERE = f"ssh://device?python={sys.executable}"


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    monkeypatch.setattr(ssh, "_PAUSES", (0.1, 0.3, 1))


def _bench(models, data, output, spec=HERE, settings=QUICK, **options):
    return bench_on([spec], models, output, data=data, settings=settings, **options)[0]


def test_a_device_gives_what_this_machine_gives(sshd, tiny_models, tiny_data, tmp_path):
    told = []
    outcome = _bench(tiny_models, tiny_data, tmp_path / "r.json", on_progress=told.append)
    assert outcome.errors == []
    there = results.read(tmp_path / "r.json")
    here = bench(tiny_models, data=tiny_data, settings=QUICK)
    assert there["device"] == HERE
    assert there["data"] == here["data"]
    for ours, theirs in zip(here["models"], there["models"], strict=True):
        assert ours["accuracy"] == theirs["accuracy"]
        assert (ours["sha256"], ours["file"]) == (theirs["sha256"], theirs["file"])
        assert theirs["latency_us"]["median"] > 0
    assert any("copying first.onnx" in text for text in told)
    assert not list(sshd.cache.glob("bench-*")), "nothing is left of a finished bench"


def test_nothing_is_copied_twice(sshd, tiny_models, tiny_data, tmp_path):
    _bench(tiny_models, tiny_data, None)
    told = []
    _bench(tiny_models, tiny_data, None, on_progress=told.append)
    assert not any("copying" in text for text in told)


def test_a_changed_host_key_is_refused(sshd, tiny_models, tmp_path):
    sshd.new_host_key()
    outcome = _bench(tiny_models, None, tmp_path / "r.json")
    assert "ssh-keygen -R" in outcome.error
    assert "\n" not in outcome.error
    assert not (tmp_path / "r.json").exists()


def test_a_refused_key(sshd, tiny_models):
    (sshd.folder / "authorized").write_text("")
    assert "ssh-copy-id" in _bench(tiny_models, None, None).error


def test_what_a_user_can_do_at_another_port_names_it():
    with Connection(parse("ssh://pi@lab:2222")) as connection:
        told = str(connection._error(255, "pi@lab: Permission denied (publickey)."))
        assert "`ssh -p 2222 pi@lab`, `ssh-copy-id -p 2222 pi@lab` installs a key" in told
        told = str(connection._error(255, "Host key verification failed."))
        assert "`ssh-keygen -R '[lab]:2222'`" in told


def test_nobody_there(sshd, tiny_models):
    sshd.stop()
    assert "nothing answers" in _bench(tiny_models, None, None).error


def test_a_device_without_python(sshd, tiny_models):
    tools = sshd.folder / "tools"  # what every Unix has
    tools.mkdir()
    for tool in ("sh", "mkdir", "cat", "mv", "wc", "rm"):
        (tools / tool).symlink_to(shutil.which(tool, path="/bin:/usr/bin"))
    clean = f"/usr/bin/env -i PATH={tools} XDG_CACHE_HOME={sshd.folder / 'cache'}"
    sshd.start(ForceCommand=f'{clean} sh -c "$SSH_ORIGINAL_COMMAND"')
    error = _bench(tiny_models, None, None, "ssh://device").error
    assert "there is no python3: install Python 3.10 or newer" in error


def test_a_named_python_that_is_not_there(sshd, tiny_models):
    for named in ("/opt/none/python3", "~/none-of-mine"):
        error = _bench(tiny_models, None, None, f"ssh://device?python={named}").error
        assert f"there is no {named.replace('~', str(Path.home()))}" in error


@pytest.mark.slow
@pytest.mark.skipif(not os.environ.get("EDGECIFAR_TEST_INSTALL"), reason="needs a package index")
def test_a_bare_python_gets_an_environment(sshd, tiny_models, tiny_data, tmp_path):
    """Set EDGECIFAR_TEST_INSTALL to let pip install the runtime's wheel on the device."""
    venv.create(tmp_path / "bare", symlinks=True)
    python = tmp_path / "bare" / "bin" / "python3"
    told, spec = [], f"ssh://device?python={python}"
    outcome = _bench(tiny_models, tiny_data, None, spec, on_progress=told.append)
    assert outcome.errors == []
    assert any("installing the runtime" in text for text in told)
    told.clear()
    assert _bench(tiny_models, tiny_data, None, spec, on_progress=told.append).errors == []
    assert not any("installing" in text for text in told)
    assert list(sshd.cache.glob("environment-*-onnx/bin/python"))
    assert outcome.result["models"][0]["backend"].startswith("onnxruntime")


_PYTHON = """#!/bin/sh
case "$*" in
*calcsize*) echo {bytes} ;;
*find_spec*) [ "$0" = "${{0#*/environment}}" ]; echo $? ;;
"-m venv "*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
*"pip install"*) echo "$PERSONALITY $*" >>{log} ;;
*) exec {python} "$@" ;;
esac
"""


@pytest.mark.parametrize(
    ("size", "kernel", "personality"), [(4, "aarch64", "32"), (8, "aarch64", ""), (4, "armv7l", "")]
)
def test_pip_is_told_of_a_32_bit_python(sshd, tiny_models, size, kernel, personality):
    """Else it asks for wheels for the 64-bit kernel."""
    tools, log = sshd.folder / "tools", sshd.folder / "pip"
    tools.mkdir()
    for name, text in (
        ("python3", _PYTHON.format(bytes=size, log=log, python=sys.executable)),
        ("uname", f"#!/bin/sh\necho {kernel}\n"),
        ("linux32", '#!/bin/sh\nPERSONALITY=32 exec "$@"\n'),
    ):
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    path = f"PATH={tools}:/bin:/usr/bin XDG_CACHE_HOME={sshd.folder / 'cache'}"
    sshd.start(ForceCommand=f'/usr/bin/env {path} sh -c "$SSH_ORIGINAL_COMMAND"')
    assert _bench(tiny_models[:1], None, None, "ssh://device").errors == []
    asked = log.read_text()
    assert asked.startswith(f"{personality} -m pip install --quiet ")
    assert asked.strip().endswith(".whl[onnx]")


@pytest.fixture
def bare(sshd):
    """Two Pythons without what a bench needs, whose pip notes what it was to install."""
    tools, log = sshd.folder / "tools", sshd.folder / "pip"
    tools.mkdir()
    for name in ("python3", "another"):
        (tools / name).write_text(_PYTHON.format(bytes=8, log=log, python=sys.executable))
        (tools / name).chmod(0o755)
    path = f"PATH={tools}:/bin:/usr/bin XDG_CACHE_HOME={sshd.folder / 'cache'}"
    sshd.start(ForceCommand=f'/usr/bin/env {path} sh -c "$SSH_ORIGINAL_COMMAND"')
    return tools, log


def test_each_python_gets_an_environment_of_its_own(sshd, bare, tiny_models):
    """Else one would be measured under the other's name."""
    for spec in ("ssh://device", f"ssh://device?python={bare[0] / 'another'}"):
        assert _bench(tiny_models[:1], None, None, spec).errors == []
    assert len(list(sshd.cache.glob("environment*/bin/python"))) == 2


def test_an_environment_is_made_once(sshd, bare, tiny_models):
    for _ in range(2):
        assert _bench(tiny_models[:1], None, None, "ssh://device").errors == []
    assert bare[1].read_text().count("pip install") == 1


def test_an_environment_whose_python_is_gone_is_made_again(sshd, bare, tiny_models):
    """As an upgrade of the system leaves it."""
    assert _bench(tiny_models[:1], None, None, "ssh://device").errors == []
    environment = sshd.cache / "environment-onnx"
    (environment / "rubble").touch()
    (environment / "bin/python").unlink()
    (environment / "bin/python").symlink_to(environment / "gone")
    assert _bench(tiny_models[:1], None, None, "ssh://device").errors == []
    assert bare[1].read_text().count("pip install") == 2
    assert not (environment / "rubble").exists()


def test_an_installation_that_fails_leaves_what_was_there(sshd, bare, tiny_models):
    """As without a network; it is begun anew the next time."""
    assert _bench(tiny_models[:1], None, None, "ssh://device").errors == []
    python = bare[0] / "another"
    whole = python.read_text()
    python.write_text(
        whole.replace('*"pip install"*)', '*"pip install"*) echo none >&2; exit 1 ;; x)')
    )
    spec = f"ssh://device?python={python}"
    assert "none (exit status 1)" in _bench(tiny_models[:1], None, None, spec).error
    (made,) = sshd.cache.glob("environment*")
    assert made.name == "environment-onnx"
    python.write_text(whole)
    assert _bench(tiny_models[:1], None, None, spec).errors == []


def test_a_python_that_can_make_no_environment(bare, tiny_models):
    python = bare[0] / "python3"
    python.write_text(python.read_text().replace(" in\n", " in\n*ensurepip*) exit 1 ;;\n", 1))
    error = _bench(tiny_models[:1], None, None, "ssh://device").error
    assert "apt install python3-venv" in error


@pytest.mark.parametrize(
    ("signal", "told", "starts"),
    [
        ("KILL", "its system killed it, most likely for want of memory", 1),
        ("TERM", "its system ended it, as when it shuts down", 4),
        ("ILL", "Illegal instruction", 1),
    ],
)
def test_an_agent_that_a_signal_ends(sshd, tiny_models, tmp_path, signal, told, starts):
    """It is started again only where it may go on: with more memory it won't be."""
    log, python = tmp_path / "starts", tmp_path / "python"
    python.write_text(
        f'#!/bin/sh\ncase "$*" in\n*runtime.agent*) echo x >>{log}; kill -{signal} $$ ;;\n'
        f'*) exec {sys.executable} "$@" ;;\nesac\n'
    )
    python.chmod(0o755)
    error = _bench(tiny_models, None, None, f"ssh://device?python={python}").error
    assert told in error
    assert len(log.read_text().split()) == starts


def test_too_old_python(sshd, tiny_models, tmp_path):
    old = tmp_path / "python"
    older = "import sys\nsys.version_info = (3, 7, 0)\nexec(sys.argv.pop(1))"
    old.write_text(f"#!/bin/sh\nshift\nexec {sys.executable} -c '{older}' \"$@\"\n")
    old.chmod(0o755)
    error = _bench(tiny_models, None, None, f"ssh://device?python={old}").error
    assert "Python 3.7 is too old: install 3.10 or newer" in error


def test_a_python_without_what_runs_these_files_is_not_taken(sshd, tiny_models):
    """It may have the interpreter of other files."""
    tools, log = sshd.folder / "tools", sshd.folder / "pip"
    tools.mkdir()
    (tools / "blind.py").write_text(
        "import importlib.util as u, sys\n"
        "known, u.find_spec = u.find_spec, lambda name: name != 'onnxruntime' and known(name)\n"
        "exec(sys.argv.pop(1))\n"
    )
    python = tools / "python3"
    python.write_text(
        _PYTHON.format(bytes=8, log=log, python=sys.executable).replace(
            '*find_spec*) [ "$0" = "${0#*/environment}" ]; echo $?',
            f'*find_spec*) shift; exec {sys.executable} {tools / "blind.py"} "$@"',
        )
    )
    python.chmod(0o755)
    path = f"PATH={tools}:/bin:/usr/bin XDG_CACHE_HOME={sshd.folder / 'cache'}"
    sshd.start(ForceCommand=f'/usr/bin/env {path} sh -c "$SSH_ORIGINAL_COMMAND"')
    assert _bench([default_model()], None, None, "ssh://device").errors == []
    assert not log.exists(), "what runs TFLite files is there"
    assert _bench(tiny_models[:1], None, None, "ssh://device").errors == []
    assert log.read_text().strip().endswith(".whl[onnx]")


def test_what_no_bench_uses_goes(sshd, tiny_models):
    _bench(tiny_models[:1], None, None)
    (copy,) = (sshd.cache / "store").glob("*.onnx")
    month = time.time() - 31 * 24 * 3600
    left, modules = sshd.cache / "store" / "left.tflite", sshd.cache / "edgecifar_runtime-0"
    begun = sshd.cache / "bench-0"
    left.touch()
    modules.mkdir()
    begun.mkdir()
    for path in (copy, left, modules, begun):
        os.utime(path, (month, month))
    _bench(tiny_models[:1], None, None)
    assert copy.exists()
    assert not any(path.exists() for path in (left, modules, begun))


def test_one_bench_at_a_time_is_timed_on_a_device(sshd, tiny_models):
    told = []
    (sshd.cache).mkdir(parents=True)
    with (sshd.cache / "lock").open("w") as lock:
        assert try_lock(lock)

        def on_progress(text):
            told.append(text)
            if "waiting for another bench" in text:
                lock.close()

        assert _bench(tiny_models, None, None, on_progress=on_progress).errors == []
    assert any("waiting for another bench" in text for text in told)


@pytest.fixture
def small_disk(sshd):
    """The device's cache on a file system of 64 kB."""
    folder = sshd.folder / "cache"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip("no right to mount a small disk")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_full_disk(sshd, small_disk, tiny_models, tiny_data, tmp_path):
    (small_disk / "filler").write_bytes(bytes(48 * 1024))
    outcome = _bench(tiny_models, tiny_data, tmp_path / "r.json")
    assert "its disk is full" in outcome.error
    whole = {path.stat().st_size for path in tiny_models}
    stored = [path for path in (sshd.cache / "store").iterdir() if path.suffix != ".npz"]
    assert all(path.stat().st_size in whole for path in stored), "half a file under its name"


def test_a_dropped_connection_loses_no_round(sshd, tiny_models, tiny_data, tmp_path):
    told, dropped = [], threading.Event()

    def on_progress(text):
        told.append(text)
        if "round 7 " in text and not dropped.is_set():
            dropped.set()
            sshd.drop()

    outcome = _bench(
        tiny_models, tiny_data, tmp_path / "r.json", settings=LONG, on_progress=on_progress
    )
    assert outcome.errors == []
    assert dropped.is_set()
    assert any("connecting again" in text for text in told)
    rounds = [int(text.split("round ")[1].split()[0]) for text in told if ": round " in text]
    assert rounds[-1] == 40
    assert rounds.count(1) == 1, "a finished round was measured again"
    assert results.read(tmp_path / "r.json")["sessions"] == 2


def test_modules_in_the_home_folder_are_not_the_runtime_s(sshd, tiny_models):
    """As of a clone there, which Python would take before those that were sent."""
    home = sshd.folder / "home"
    (home / "edgecifar/runtime").mkdir(parents=True)
    (home / "edgecifar/runtime/agent.py").write_text("raise SystemExit('an old one')\n")
    (home / "random.py").write_text("raise SystemExit('no numbers')\n")
    (home / "python").symlink_to(sys.executable)
    sshd.start(ForceCommand=f'cd {home} && sh -c "$SSH_ORIGINAL_COMMAND"')
    for python in (sys.executable, "./python"):
        assert _bench(tiny_models, None, None, f"ssh://device?python={python}").errors == []


@pytest.mark.parametrize("said", ["welcome\n/home/pi\n/home/pi/.cache\n", ""])
def test_a_shell_that_prints_more_is_told(said):
    connection = SimpleNamespace(run=lambda script: said)
    with pytest.raises(EdgecifarError, match=r"its shell prints more .* \((welcome|nothing)\)"):
        ssh._Job(connection, None, print).start()


def test_each_finished_round_gives_new_attempts(sshd, monkeypatch):
    """Weak radio breaks a long bench more often than one is tried again."""
    drops = [1] * 9 + [0] * len(ssh._PAUSES)

    class Job:
        def __init__(self, *_):
            self.left = list(drops)

        def start(self):
            pass

        def finish(self):
            raise UnreachableError("the connection broke")

        def finished_rounds(self):
            return self.left.pop(0)

    pauses = []
    monkeypatch.setattr(ssh, "_Job", Job)
    monkeypatch.setattr(ssh.time, "sleep", pauses.append)
    with pytest.raises(UnreachableError):
        ssh.SshDevice.from_spec("ssh://device").measure(None, print)
    assert pauses == [ssh._PAUSES[0]] * 9 + list(ssh._PAUSES[1:])


def test_what_is_cleaned_up_lies_in_the_cache(sshd, tiny_models):
    """And not in the home folder, where the cache can't be entered."""
    with tempfile.TemporaryDirectory() as folder:
        parcel = pack(tiny_models, None, QUICK, Path(folder))
    old = sshd.folder / "home/store/mine"
    old.parent.mkdir(parents=True)
    old.touch()
    os.utime(old, (0, 0))
    sshd.start(ForceCommand=f'cd {sshd.folder / "home"} && sh -c "$SSH_ORIGINAL_COMMAND"')
    assert not sshd.cache.exists()
    ssh.SshDevice.from_spec("ssh://device").forget(parcel)
    assert old.exists()


def test_a_device_that_stays_away(sshd, tiny_models, tiny_data, tmp_path):
    def on_progress(text):
        if "round 3 " in text:
            sshd.drop(stay_away=True)

    outcome = _bench(
        tiny_models, tiny_data, tmp_path / "r.json", settings=LONG, on_progress=on_progress
    )
    assert outcome.error
    assert not (tmp_path / "r.json").exists()
    sshd.start()
    told = []
    outcome = _bench(
        tiny_models, tiny_data, tmp_path / "r.json", settings=LONG, on_progress=told.append
    )
    assert outcome.errors == []
    assert not any("round 1 of" in text for text in told)


def test_one_unreachable_device_does_not_stop_the_others(sshd, tiny_models, tmp_path):
    specs = ["ssh://device:1", "local"]
    outcomes = bench_on(specs, tiny_models, tmp_path / "r.json", data=None, settings=QUICK)
    assert "nothing answers" in outcomes[0].error
    assert outcomes[1].errors == []
    assert [path.name for path in tmp_path.glob("*.json")] == ["r-local.json"]
    told = []
    sshd.stop()
    again = bench_on(
        specs, tiny_models, tmp_path / "r.json", data=None, settings=QUICK, on_progress=told.append
    )
    assert again[1].result == outcomes[1].result, "what is finished isn't measured again"
    assert not any("local: round" in text for text in told)
    assert any("local: measured before" in text for text in told)
    for what, models, settings in (
        ("files", tiny_models[:1], QUICK),
        ("settings", tiny_models, LONG),
    ):
        with pytest.raises(EdgecifarError, match=rf"r-local\.json is of other {what}"):
            bench_on(specs, models, tmp_path / "r.json", data=None, settings=settings)


def test_what_can_t_be_deleted_there_costs_no_result(sshd, tiny_models, tmp_path, monkeypatch):
    def fail(*_):
        raise EdgecifarError("the connection broke")

    monkeypatch.setattr(ssh.SshDevice, "forget", fail)
    told = []
    outcome = _bench(tiny_models, None, tmp_path / "r.json", on_progress=told.append)
    assert outcome.errors == []
    assert outcome.result["request"] == results.read(tmp_path / "r.json")["request"]
    assert "the connection broke" in told[-1]


def test_each_python_of_a_host_has_a_folder_of_its_own(sshd, tiny_models, tmp_path, monkeypatch):
    """Else one would be given what the other has measured."""
    other = tmp_path / "python"
    other.symlink_to(sys.executable)
    monkeypatch.setattr(ssh.SshDevice, "forget", lambda *_: None)
    for spec in (HERE, f"ssh://device?python={other}"):
        assert _bench(tiny_models[:1], None, None, spec).errors == []
    assert len(list(sshd.cache.glob("bench-*"))) == 2


@pytest.mark.parametrize(
    "spec",
    ["ssh://", "ssh://-oProxyCommand=x", "ssh://h:p", "ssh://h/path", "ssh://h?x=1", "ssh://[fe80"],
)
def test_impossible_addresses(spec):
    with pytest.raises(EdgecifarError, match="no address"):
        parse(spec)


def test_addresses():
    found = parse("ssh://Pi@Kitchen:2222?python=/opt/p")
    assert (found.user, found.host, found.port, found.python) == ("Pi", "Kitchen", 2222, "/opt/p")
    assert found.where == "Pi@Kitchen"
    assert parse("ssh://[fe80::1%25eth0]").host == "fe80::1%eth0"
