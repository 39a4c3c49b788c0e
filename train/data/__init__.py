"""Images with labels: found, checked, divided and kept decoded."""

from edgecifar.train.data.dataset import Dataset, Split
from edgecifar.train.data.loading import load

__all__ = ["Dataset", "Split", "load"]
