"""The report as a browser shows it: on a desktop and a phone, light and dark.

The browser is driven over a pair of pipes (--remote-debugging-pipe), which needs no package: each
message is JSON ended by a zero byte.
"""

import base64
import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections import deque
from pathlib import Path

import pytest

from edgecifar.benchmarks.report.build import build_report
from edgecifar.benchmarks.report.study_page import build_study_report
from edgecifar.runtime.results import seal

ROOT = Path(__file__).parents[2]
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--hide-scrollbars",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--remote-debugging-pipe",
)
# Chromium reads its end of the pipes as descriptors 3 and 4.
WIRE = """
import fcntl, os, sys
ends = [fcntl.fcntl(int(end), fcntl.F_DUPFD, 10) for end in sys.argv[1:3]]
for end, number in zip(ends, (3, 4)):
    os.dup2(end, number)
os.execvp(sys.argv[3], sys.argv[3:])
"""
# What is wrong with a page, in the page's own words.
LOOK = """(() => {
  const wrong = [];
  for (const image of document.images)
    if (!image.complete || !image.naturalWidth) wrong.push('missing image: ' + image.alt);
  const width = document.documentElement.clientWidth;
  if (width !== innerWidth) wrong.push(`laid out ${width} wide, not ${innerWidth}`);
  if (document.documentElement.scrollWidth > width)
    wrong.push(`body scrolls sideways: ${document.documentElement.scrollWidth} > ${width}`);
  for (const drawing of document.querySelectorAll('.plot svg')) {
    const frame = drawing.getBoundingClientRect();
    if (frame.width < 200) wrong.push('a drawing is only ' + frame.width + ' wide');
    for (const text of drawing.querySelectorAll('text')) {
      const box = text.getBoundingClientRect();
      if (box.left < frame.left - 1 || box.right > frame.right + 1 ||
          box.top < frame.top - 1 || box.bottom > frame.bottom + 1)
        wrong.push('text leaves its drawing: ' + text.textContent);
    }
  }
  for (const element of document.querySelectorAll('main *:not(svg *)')) {
    const box = element.getBoundingClientRect();
    if (box.right > width + 1 && !element.closest('.scroll'))
      wrong.push('sticks out: ' + element.outerHTML.slice(0, 80));
  }
  return wrong;
})()"""


class Browser:
    """A headless Chromium with one tab and a profile of its own."""

    def __init__(self, profile):
        self._profile = profile

    def __enter__(self):
        theirs_in, self._out = os.pipe()
        self._in, theirs_out = os.pipe()
        command = [CHROMIUM, *FLAGS, f"--user-data-dir={self._profile}", "about:blank"]
        wired = [sys.executable, "-c", WIRE, str(theirs_in), str(theirs_out), *command]
        self._process = subprocess.Popen(
            wired,
            pass_fds=(theirs_in, theirs_out),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._buffer, self._waiting, self._number, self._session = b"", deque(), 0, None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        return self

    def __exit__(self, *_):
        os.close(self._out)  # Chromium ends when its pipe does
        os.close(self._in)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def visit(self, url, width, scheme):
        """Load a page and return what is wrong with it."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=844,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.call("Emulation.setEmulatedMedia", features=[feature])
        self._waiting.clear()
        self.call("Page.navigate", url=url)
        wrong = []
        while (event := self._next())["method"] != "Page.loadEventFired":
            wrong += _complaint(event, url)
        wrong += self.evaluate(LOOK)
        return wrong + [text for event in self._waiting for text in _complaint(event, url)]

    def evaluate(self, expression):
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"]["value"]

    def screenshot(self):
        """The whole page as PNG."""
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        shot = self.call("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)
        return base64.b64decode(shot["data"])

    def call(self, method, **parameters):
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while (answer := self._read()).get("id") != self._number:
            self._waiting.append(answer)
        assert "error" not in answer, answer
        return answer["result"]

    def _next(self):
        return self._waiting.popleft() if self._waiting else self._read()

    def _read(self, seconds=60):
        deadline = time.monotonic() + seconds
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._in], [], [], max(0, deadline - time.monotonic()))
            assert ready, f"chromium says nothing for {seconds} s"
            chunk = os.read(self._in, 1 << 20)
            assert chunk, f"chromium has ended with {self._process.poll()}"
            self._buffer += chunk
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)


def _complaint(event, url):
    """What an event says is wrong: errors and warnings on the console, or use of a network."""
    method, details = event.get("method"), event.get("params", {})
    if method == "Runtime.consoleAPICalled" and details["type"] in ("error", "warning", "assert"):
        return [f"console: {details['args']}"]
    if method == "Runtime.exceptionThrown":
        return [f"exception: {details['exceptionDetails']['text']}"]
    if method == "Log.entryAdded" and details["entry"]["level"] in ("error", "warning"):
        return [f"log: {details['entry']['text']}"]
    if method == "Network.requestWillBeSent":
        asked = details["request"]["url"]
        return [] if asked == url or asked.startswith("data:") else [f"asks for {asked}"]
    return []


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with Browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture(scope="module")
def report(tmp_path_factory, run_folders, bench_result, flat_digits):
    """The fullest page: two runs, two benches with names as long as they get, and images."""
    folder = tmp_path_factory.mktemp("report")
    models = [dict(model) for model in bench_result["models"]]
    models[1]["name"] = "mobilenetv2-96x96-distilled-p50-qat-int8-per-channel-onnxruntime"
    (folder / "a.json").write_text(json.dumps(bench_result))
    (folder / "b.json").write_text(json.dumps(seal(bench_result | {"models": models})))
    benches = [folder / "a.json", folder / "b.json"]
    return build_report(run_folders, benches, folder / "report.html", images=flat_digits.images)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_page_is_sound(browser, report, width, scheme):
    assert browser.visit(report.as_uri(), width, scheme) == []


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_the_page_of_a_study_is_sound(browser, small_study, width, scheme):
    assert browser.visit(small_study.report.as_uri(), width, scheme) == []
    assert browser.evaluate("document.images.length") > 10  # a row a class, and confused pairs
    shown = browser.evaluate("document.querySelector('main').innerText")
    for part in ("What each change is worth", "Side by side", "Parity with Keras", "Not run yet"):
        assert part in shown


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """The page of the study whose result is published, which has all that a table can say."""
    result = ROOT / "benchmarks" / "results" / "seed-study.json"
    return build_study_report(result, tmp_path_factory.mktemp("study") / "report.html")


@pytest.mark.parametrize(("width", "columns"), [(1100, "all"), (390, 3)])
def test_what_is_ours_is_in_view_without_scrolling(browser, published, width, columns):
    assert browser.visit(published.as_uri(), width, "light") == []
    names, hidden = browser.evaluate("""(() => {
      const box = document.querySelector('#results .scroll');
      const heads = [...box.querySelectorAll('thead th')];
      const edge = box.getBoundingClientRect().right;
      const text = head => head.getBoundingClientRect().right
        - parseFloat(getComputedStyle(head).paddingRight);
      return [heads.map(head => head.innerText), heads.filter(head => text(head) > edge).length];
    })()""")
    assert names[:3] == ["System", "Ours, float32", "Ours, int8"]
    assert hidden <= (0 if columns == "all" else len(names) - columns)


def test_colours_follow_the_scheme(browser, report):
    look = """[getComputedStyle(document.body).backgroundColor,
      getComputedStyle(document.querySelector('.plot svg text')).fill].join()"""
    browser.visit(report.as_uri(), 1280, "light")
    light = browser.evaluate(look)
    browser.visit(report.as_uri(), 1280, "dark")
    assert browser.evaluate(look) != light


def test_wide_tables_scroll_inside_their_box(browser, report):
    browser.visit(report.as_uri(), 390, "light")
    assert browser.evaluate(
        "[...document.querySelectorAll('.scroll')].some(box => box.scrollWidth > box.clientWidth)"
    )


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ("<script>console.error('no')</script>", "console"),
        ("<script>throw new Error('no')</script>", "exception"),
        ("<main><img alt='x' src='data:image/png;base64,AAAA'></main>", "missing image"),
        ("<main><p style='width: 3000px'>wide</p></main>", "sideways"),
        ("<link rel=stylesheet href='https://invalid.test/a.css'>", "asks for"),
    ],
)
def test_these_tests_would_notice(browser, tmp_path, body, complaint):
    page = tmp_path / "bad.html"
    page.write_text(f"<!doctype html><meta name=viewport content='width=device-width'>{body}")
    assert any(complaint in wrong for wrong in browser.visit(page.as_uri(), 390, "light"))
