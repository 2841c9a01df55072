"""The report in headless Chromium, driven through ChromeDriver's HTTP interface."""

import http.client
import json
import shutil
import subprocess
import time
from pathlib import Path

import pytest
import torch

from captum_ext.visualization import Report, ReportEntry

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
EVIL = "</script><img src=x onerror=alert(1)>{{script}}"
T, H, W = 9, 14, 22

pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="chromium and chromedriver are not installed (apt-get install both)"
)


class Browser:
    """The few WebDriver commands the tests need."""

    def __init__(self, profile, *options):
        self.process = subprocess.Popen([DRIVER, "--port=0"], stdout=subprocess.PIPE, text=True)
        for line in self.process.stdout:
            if "started successfully on port" in line:
                self.port = int(line.rstrip().rstrip(".").split()[-1])
                break
        flags = "headless no-sandbox disable-gpu disable-quic no-first-run disable-background-networking"
        flags += " disable-component-update disable-sync disable-dev-shm-usage window-size=1100,1200"
        args = [f"--{flag}" for flag in flags.split()] + [f"--user-data-dir={profile}", *options]
        wanted = {
            "goog:chromeOptions": {"binary": CHROMIUM, "args": args},
            "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
        }
        self.session = ""
        answer = self("POST", "", {"capabilities": {"alwaysMatch": wanted}})
        self.session = "/" + answer["sessionId"]

    def __call__(self, method, path, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.request(
            method, f"/session{self.session}{path}", None if body is None else json.dumps(body)
        )
        value = json.load(connection.getresponse())["value"]
        connection.close()
        if isinstance(value, dict) and "error" in value:
            raise RuntimeError(f"{method} {path}: {value['message']}")
        return value

    def open(self, path: Path):
        self("POST", "/url", {"url": path.as_uri()})

    def run(self, script, *args):
        return self("POST", "/execute/sync", {"script": script, "args": list(args)})

    def element(self, selector):
        (reference,) = self("POST", "/element", {"using": "css selector", "value": selector}).values()
        return reference

    def click(self, selector):
        self("POST", f"/element/{self.element(selector)}/click", {})

    def keys(self, selector, text):
        self("POST", f"/element/{self.element(selector)}/value", {"text": text})

    def pointer(self, kind, *actions):
        source = {"type": "pointer", "id": kind, "parameters": {"pointerType": kind}, "actions": actions}
        self("POST", "/actions", {"actions": [source]})

    def point_at_frame(self, frame, kind="mouse"):
        box = self.run(
            "const b = document.querySelector('.curve').getBoundingClientRect();"
            "return [b.left, b.top, b.width, b.height]"
        )
        x, y = round(box[0] + (frame + 0.5) / T * box[2]), round(box[1] + box[3] / 2)
        move = {"type": "pointerMove", "duration": 0, "x": x, "y": y}
        touch = [{"type": "pointerDown", "button": 0}, {"type": "pointerUp", "button": 0}]
        self.pointer(kind, move, *(touch if kind == "touch" else []))

    def log(self, kind):
        return self("POST", "/se/log", {"type": kind})

    def frame(self):
        return int(self.run("return document.querySelector('.player').dataset.frame"))

    def pixel(self, canvas):
        """The middle pixel's RGB of one of the two pictures."""
        return self.run(
            f"const c = document.querySelector('canvas.{canvas}');"
            "return [...c.getContext('2d').getImageData(c.width / 2, c.height / 2, 1, 1).data].slice(0, 3)"
        )

    def close(self):
        try:
            self("DELETE", "")
        finally:
            self.process.terminate()
            self.process.wait(timeout=10)


def wait_until(condition, seconds=5.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the page did not get there"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture
def page(browser, tmp_path):
    """A report whose frame t is a grey of 20 + 25 t, with evidence in all of frame 6 (late) or 2 (early)."""
    frames = (20 + 25 * torch.arange(T)).to(torch.uint8)[:, None, None, None].expand(T, 3, H, W)
    late, early = torch.zeros(2, T, 3, 5)
    late[6] = early[2] = 1.0
    report = Report(f"Title {EVIL}")
    report.add_entry(
        ReportEntry(
            f"label {EVIL}",
            frames,
            fps=30,
            maps={"late": late, f"early {EVIL}": early},
            spans=[(5, 8)],
            windows={"late": (6, 7)},
            boxes=torch.tensor([[1.0, 1.0, 4.0, 4.0]]).expand(T, 4),
            metadata={EVIL: EVIL},
            note=EVIL,
        )
    )
    report.add_table(EVIL, [EVIL, "b"], [[EVIL, 0.5]], caption=EVIL)
    report.add_text(EVIL, title=EVIL)
    browser.log("browser"), browser.log("performance")
    browser.open(report.save(tmp_path / "report.html"))
    wait_until(lambda: browser.run("return document.querySelector('canvas.clip') !== null"))
    wait_until(lambda: browser.pixel("clip") != [0, 0, 0])
    return browser


def test_it_opens_on_the_frame_with_the_most_evidence(page):
    assert page.frame() == 6
    wait_until(lambda: page.pixel("evidence") != page.pixel("clip"))
    assert page.pixel("clip") == pytest.approx([170] * 3, abs=4)


@pytest.mark.parametrize("kind", ["mouse", "touch"])
def test_moving_along_the_curve_moves_both_pictures(page, kind):
    for frame in (0, 3, 8, 1):
        page.point_at_frame(frame, kind)
        assert page.frame() == frame
        assert page.pixel("clip") == pytest.approx([20 + 25 * frame] * 3, abs=4)
        assert page.pixel("evidence") == page.pixel("clip")  # no evidence in these frames


def test_method_buttons_switch_the_overlay_the_curve_and_the_window(page):
    shape = "return document.querySelector('.curve .line').getAttribute('points')"
    before = page.run(shape)
    page.click(".methods button:nth-child(2)")
    assert page.run(shape) != before
    assert page.run("return document.querySelector('.found') === null")
    assert page.run("return document.querySelector('.key-window').hidden")
    page.point_at_frame(2)
    wait_until(lambda: page.pixel("evidence") != page.pixel("clip"))
    page.point_at_frame(6)
    assert page.pixel("evidence") == page.pixel("clip")
    pressed = "return [...document.querySelectorAll('.methods button')].map(b => b.ariaPressed)"
    assert page.run(pressed) == ["false", "true"]


def test_the_span_and_the_window_stand_at_their_frames(page):
    column = "const r = document.querySelector(arguments[0]).attributes; return [r.x.value, r.width.value]"
    assert page.run(column, ".span") == ["5", "3"]
    assert page.run(column, ".found") == ["6", "1"]


def test_arrow_keys_step_and_stop_at_the_ends(page):
    right, left, end, home = "\ue014", "\ue012", "\ue010", "\ue011"
    page.keys(".curve", right)
    assert page.frame() == 7
    page.keys(".curve", left + left)
    assert page.frame() == 5
    page.keys(".curve", end + right)
    assert page.frame() == T - 1
    page.keys(".curve", home + left)
    assert page.frame() == 0
    assert page.run("return document.querySelector('.curve').ariaValueText").startswith("frame 0,")


def test_play_runs_through_the_clip_and_pause_stops_it(page):
    seen = set()
    page.click(".play")
    wait_until(lambda: seen.add(page.frame()) or len(seen) >= 3)
    page.click(".play")
    stopped = page.frame()
    time.sleep(0.2)
    assert page.frame() == stopped


def test_the_overlay_strength_goes_down_to_the_plain_frame(page):
    wait_until(lambda: page.pixel("evidence") != page.pixel("clip"))
    page.run(
        "const s = document.querySelector('.strength'); s.value = 0; s.dispatchEvent(new Event('input'))"
    )
    assert page.pixel("evidence") == page.pixel("clip")


def test_labels_are_text_not_markup(page):
    assert page.run("return document.querySelectorAll('main img').length") == 0
    assert page.run("return document.querySelector('h1').textContent") == f"Title {EVIL}"
    assert page.run("return document.querySelector('h2').textContent") == f"label {EVIL}"
    assert (
        page.run("return document.querySelector('.methods button:nth-child(2)').textContent")
        == f"early {EVIL}"
    )
    assert page.run("return document.querySelector('td').textContent") == EVIL


def test_no_console_message_and_no_network_request(page):
    page.click(".methods button:nth-child(2)")
    page.point_at_frame(4)
    assert page.log("browser") == []
    messages = [json.loads(entry["message"])["message"] for entry in page.log("performance")]
    urls = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    assert any(url.startswith("file:") for url in urls), "the log must have seen the page itself"
    assert [url for url in urls if not url.startswith(("data:", "file:"))] == []
    assert len([url for url in urls if url.startswith("file:")]) == 1


def test_a_script_that_is_not_the_reports_own_does_not_run(page):
    """The policy is the second wall: markup that got in would still be inert."""
    page.run("document.body.insertAdjacentHTML('beforeend', '<img src=data:, onerror=\"window.hit = 1\">')")
    time.sleep(0.2)
    assert page.run("return window.hit === undefined")


def test_a_narrow_screen_needs_no_sideways_scrolling(page):
    page("POST", "/window/rect", {"width": 500, "height": 900})
    width = page.run("return [document.documentElement.scrollWidth, window.innerWidth]")
    page("POST", "/window/rect", {"width": 1100, "height": 1200})
    assert width[0] <= width[1]
