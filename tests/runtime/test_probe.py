import shutil
import stat
import subprocess
import sys

import pytest

from edgecifar.runtime import Classifier, interpreters, modelfile, probe, shipped
from edgecifar.runtime.errors import EdgecifarError


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A machine that has probed nothing so far."""
    monkeypatch.setattr(probe, "_checked", set())
    monkeypatch.setenv("EDGECIFAR_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def model(bare, cache):
    return modelfile.read(bare / "int8.tflite")


@pytest.fixture
def python(tmp_path, monkeypatch):
    """Let a shell script stand for the Python that the child would be."""

    def install(script):
        path = tmp_path / "python"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setattr(sys, "executable", str(path))

    return install


def test_measures_a_fresh_process(model):
    found = probe.probe(model, "litert")
    assert 0 < found.load_ms < 10_000
    assert 0 < found.first_us < 10_000_000
    assert found.peak_memory_bytes > 10_000_000  # Python and NumPy alone need that
    assert found.model_memory_bytes < found.peak_memory_bytes


def test_a_crash_is_told_not_shared(model, python):
    python("kill -SEGV $$")
    with pytest.raises(EdgecifarError, match=r"int8\.tflite: it crashes litert \(SIGSEGV\)"):
        probe.probe(model, "litert")


def test_want_of_memory_is_named(model, python):
    python("kill -KILL $$")  # as the kernel does when memory runs out
    with pytest.raises(EdgecifarError, match=r"int8\.tflite: .* memory: close other programs"):
        probe.probe(model, "litert")


def test_a_hang_ends(model, python, monkeypatch):
    python("exec sleep 60")
    monkeypatch.setattr(probe, "_TIMEOUT", 0.2)
    with pytest.raises(EdgecifarError, match="it hangs in litert"):
        probe.probe(model, "litert")


def test_only_the_first_opening_starts_a_child(model, python):
    probe.check_once(model, "litert")
    python("exit 1")
    probe.check_once(model, "litert")
    with pytest.raises(EdgecifarError, match="no reason given"):
        probe.check_once(model, "tensorflow")


def test_a_machine_probes_a_file_once(model, python, monkeypatch, cache):
    probe.check_once(model, "litert")
    (mark,) = (cache / "probed").iterdir()
    assert mark.name.startswith(f"{model.sha256}-litert-")
    assert mark.stat().st_size == 0
    python("exit 1")
    monkeypatch.setattr(probe, "_checked", set())  # as in the next process
    probe.check_once(model, "litert")
    monkeypatch.setattr(probe, "_checked", set())
    monkeypatch.setattr("ai_edge_litert.__version__", "0.0")  # which may have other bugs
    with pytest.raises(EdgecifarError, match="no reason given"):
        probe.check_once(model, "litert")


def test_what_fails_is_probed_again(model, python, cache):
    python("exit 1")
    for _ in range(2):
        with pytest.raises(EdgecifarError, match="no reason given"):
            probe.check_once(model, "litert")
    assert not (cache / "probed").exists()


def test_a_cache_that_cannot_be_written(model, cache, monkeypatch):
    cache.write_text("a file, where a folder should be")
    probe.check_once(model, "litert")
    monkeypatch.delenv("EDGECIFAR_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache.with_name("xdg")))
    monkeypatch.setattr(probe, "_checked", set())
    probe.check_once(model, "litert")
    assert len(list(cache.with_name("xdg").glob("edgecifar/probed/*"))) == 1


def test_only_what_ships_is_trusted(python, cache):
    """A checksum is no reason: anybody can write one."""
    python("kill -SEGV $$")
    path = shipped.locate("resnet8")
    assert Classifier(path).classes[0] == "airplane"
    copy = cache.with_name("resnet8.tflite")
    shutil.copy(path, copy)
    assert modelfile.read(copy).has_checksum
    with pytest.raises(EdgecifarError, match=r"crashes litert \(SIGSEGV\)"):
        Classifier(copy)


def test_a_crash_behind_a_right_checksum(tmp_path):
    """An addition of tensor -1 reads what lies before the tensors: most processes die of it."""
    schema = pytest.importorskip("ai_edge_litert.schema_py_generated")
    import flatbuffers

    model = schema.ModelT.InitFromPackedBuf(modelfile.read(shipped.locate("resnet8")).payload, 0)
    codes = [code.builtinCode for code in model.operatorCodes]
    addition = codes.index(schema.BuiltinOperator.ADD)
    first = next(op for op in model.subgraphs[0].operators if op.opcodeIndex == addition)
    first.inputs = [-1, first.inputs[1]]
    builder = flatbuffers.Builder(1 << 16)
    builder.Finish(model.Pack(builder), b"TFL3")
    path = tmp_path / "hostile.tflite"
    path.write_bytes(bytes(builder.Output()))
    modelfile.append(path, {"name": "resnet8"}, None)
    code = (
        "import sys, numpy as np\n"
        "from edgecifar.runtime import Classifier, EdgecifarError\n"
        "try:\n"
        "    Classifier(sys.argv[1]).predict(np.zeros((32, 32, 3), np.uint8))\n"
        "except EdgecifarError as error:\n"
        "    print(error)\n"
    )
    command = [sys.executable, "-c", code, path]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{path}: ")
    assert done.stdout.count("\n") == 1


def test_modules_in_the_working_folder_are_not_ours(model, tmp_path, monkeypatch):
    (tmp_path / "random.py").write_text("raise SystemExit('the wrong random')")
    monkeypatch.chdir(tmp_path)
    assert probe.probe(model, "litert").first_us > 0


def test_a_child_sees_pythonpath_and_not_the_working_folder(tmp_path, monkeypatch):
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}.py").touch()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "there"))
    subprocess.run(probe.child("import there"), check=True)
    for safe in ("", "1"):  # 3.11 and newer can leave the working folder out themselves
        monkeypatch.setenv("PYTHONSAFEPATH", safe)
        subprocess.run(probe.child("import there"), check=True)
        done = subprocess.run(probe.child("import here"), capture_output=True, check=False)
        assert b"No module named 'here'" in done.stderr


def test_a_child_finds_what_its_parent_was_told_of(tmp_path, monkeypatch):
    """As `pip install --target libs` and sys.path.insert(0, "libs") have it."""
    (tmp_path / "libs").mkdir()
    (tmp_path / "libs" / "told.py").touch()
    (tmp_path / "libs" / "json.py").write_text("raise SystemExit('not the standard library')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend("libs")
    subprocess.run(probe.child("import told, json"), check=True, cwd="/")


def test_damage_that_the_quick_check_passes_is_met_in_the_child(bare, cache, tmp_path, monkeypatch):
    """The parent must not load such a file itself; what the child says is the error."""
    payload = (bare / "float32.tflite").read_bytes()
    path = tmp_path / "damaged.tflite"
    monkeypatch.setattr(interpreters, "open_unchecked", _must_not_be_called)
    for position in range(64, len(payload)):
        damaged = payload[:position] + bytes([payload[position] ^ 0xFF]) + payload[position + 1 :]
        path.write_bytes(damaged)
        try:
            model = modelfile.read(path)
        except EdgecifarError:
            continue
        if fails_in_the_child(model):
            return
    pytest.fail("no byte was found that only the interpreter objects to")


def _must_not_be_called(*_, **__):
    raise AssertionError("the parent opened the damaged file")


def fails_in_the_child(model):
    try:
        interpreters.open_model(model)
    except EdgecifarError as error:
        return str(model.path) in str(error)
    except AssertionError:  # the child found nothing, so the parent may go on
        return False
    return False


def test_a_program_that_is_its_own_python_does_not_start_itself_for_ever(model, python, tmp_path):
    """As PyInstaller's do: the child would open the model as its parent did."""
    count = tmp_path / "starts"
    python(f'echo >> {count}; test "$EDGECIFAR_PROBE" = 1 && echo "usage: program"')
    with pytest.raises(EdgecifarError, match=r"is no Python: set sys\.executable to one"):
        probe.check_once(model, "litert")
    assert count.read_text() == "\n"


@pytest.mark.parametrize("inside", ["frozen", "child"])
def test_no_child_is_started_where_it_would_be_the_program(model, python, monkeypatch, inside):
    python("kill -SEGV $$")
    if inside == "frozen":
        monkeypatch.setattr(sys, "frozen", True, raising=False)
    else:
        monkeypatch.setenv("EDGECIFAR_PROBE", "1")
    probe.check_once(model, "litert")


def test_memory_where_only_the_maximum_is_told(monkeypatch):
    """Linux counts it in kB: a Python takes some MB."""
    told = probe.resident_bytes("VmHWM:")

    def nothing(self):
        raise FileNotFoundError

    monkeypatch.setattr(probe.Path, "read_text", nothing)
    assert probe.resident_bytes("VmHWM:") == pytest.approx(told, rel=0.5)
