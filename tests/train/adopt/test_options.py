"""Several runs and model files given to one command."""

import pytest

from edgecifar.runtime.errors import EdgecifarError
from edgecifar.train import data
from edgecifar.train.adopt import adoption
from edgecifar.train.adopt.options import open_all, open_given


@pytest.fixture
def opened(monkeypatch):
    """The paths that are opened, each with its --pixels, and how often the data are loaded."""
    seen = {"pixels": {}, "loads": 0}

    def load(**source):
        seen["loads"] += 1
        return source

    def open_or_adopt(path, load, *, pixels, beside, report):
        seen["pixels"][path.name] = pixels
        load()
        return path.name, load()

    monkeypatch.setattr(data, "load", load)
    monkeypatch.setattr(adoption, "open_or_adopt", open_or_adopt)
    return seen


def test_the_scale_goes_to_model_files_and_the_data_are_loaded_once(tmp_path, opened):
    model = tmp_path / "net.h5"
    model.touch()
    runs, dataset = open_all((tmp_path / "run", model), "0..1", {"data": "digits"})
    assert runs == ("run", "net.h5")
    assert dataset == {"data": "digits"}
    assert opened == {"pixels": {"run": None, "net.h5": "0..1"}, "loads": 1}


def test_a_scale_without_a_model_file_is_refused(tmp_path):
    for name in ("run.json", "metrics.json"):
        (tmp_path / name).write_text('{"any": 1}')
    (tmp_path / "model.h5").touch()
    with pytest.raises(EdgecifarError, match=r"--pixels is for model files: .* is a run"):
        open_given(tmp_path, "0..1", {"data": "digits"})
