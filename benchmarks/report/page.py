"""Fill a template: one HTML page that needs nothing else."""

import datetime
import re
from pathlib import Path
from typing import Any

from markupsafe import Markup, escape

from edgecifar.benchmarks.report.figures import MARKERS
from edgecifar.benchmarks.report.svg import SERIES_COUNT

_FOLDER = Path(__file__).parent


def render(template: str, **context: Any) -> str:
    """Return the page that `template` makes of `context`; a name that is missing is an error."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["breakable"] = breakable
    environment.globals |= {
        "css": (_FOLDER / "page.css").read_text(encoding="utf-8"),
        "marks": [path for _, path in MARKERS],
        "series_count": SERIES_COUNT,
        "written": datetime.datetime.now(datetime.timezone.utc).strftime("%d %B %Y, %H:%M UTC"),
    }
    return environment.get_template(template).render(context)


def breakable(name: str) -> Markup:
    """Let a long name break after its hyphens, dots and underscores."""
    return Markup(re.sub(r"([-_.])", r"\1<wbr>", str(escape(name))))


def digits_notice() -> str:
    """Return what a page says when its images are digits."""
    return (
        "These figures are of the small digit images that scikit-learn carries, not of "
        "CIFAR-10: they show that the pipeline works, not how good a model is."
    )
