"""The report in headless Chromium: silent console, nothing fetched, no sideways scrolling, a readable print."""

import http.server
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import PIL.Image
import pytest
from simulated_run import make_run, report_job

from write_report import write_report

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--enable-logging=stderr",
    "--v=0",
]
SECONDS = 90
# Measures the page from inside and writes what it finds where --dump-dom shows it.
PROBE = """<script>
addEventListener("load", () => {
  const wide = [...document.querySelectorAll("main *")].filter((e) =>
    !e.closest(".scroll") && !e.closest("svg") && e.getBoundingClientRect().right > innerWidth + 1);
  const fetched = performance.getEntriesByType("resource").map((e) => e.name).filter((n) => !n.startsWith("data:"));
  document.body.dataset.probe = JSON.stringify({width: innerWidth, page: document.documentElement.scrollWidth,
    wide: wide.map((e) => e.tagName + "." + e.className), fetched});
});</script></body>"""


def browser() -> str:
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        if os.environ.get("CI"):
            pytest.fail("Chromium is missing, and CI must have it: apt-get install chromium")
        pytest.skip("Chromium is not installed: apt-get install chromium")
    return found


def with_script(report: Path, text: str) -> str:
    """Return the page with `text` before its end, and leave to run it (the page itself runs its own script only)."""
    page = report.read_text(encoding="utf-8").replace("</body>", text)
    return re.sub(r"script-src 'sha256-[^']+'", "script-src 'unsafe-inline'", page, count=1)


def open_page(folder: Path, page: str, *flags: str) -> subprocess.CompletedProcess[str]:
    command = [browser(), *FLAGS, f"--user-data-dir={folder / 'profile'}", *flags, page]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done


def console(done: subprocess.CompletedProcess[str]) -> list[str]:
    """Return what the page said on the console (Chromium's own log lines are not from the page)."""
    return [line for line in done.stderr.splitlines() if ":CONSOLE" in line]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = make_run(tmp_path_factory.mktemp("browser"))
    job = report_job(run)
    write_report(job)
    return job.outputs[0]


@pytest.fixture
def watched(report: Path) -> Iterator[tuple[str, list[str]]]:
    """Serve the report from a server that notes what is asked of it."""
    asked: list[str] = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments, directory=str(report.parent))  # type: ignore[arg-type]

        def log_message(self, *arguments: object) -> None:
            asked.append(self.path)

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/report.html", asked
        server.shutdown()
        thread.join()


def test_console_is_silent_and_nothing_else_is_asked_for(watched: tuple[str, list[str]], tmp_path: Path) -> None:
    page, asked = watched
    done = open_page(tmp_path, page, "--virtual-time-budget=4000", "--dump-dom")
    assert console(done) == []
    assert asked == ["/report.html"]
    assert "<h2>Verdict</h2>" in done.stdout


def test_the_probe_would_see_a_console_error_and_a_request(report: Path, tmp_path: Path) -> None:
    page = tmp_path / "broken.html"
    noise = '<script>console.error("seen")</script><img src="https://127.0.0.1:9/x.png"></body>'
    page.write_text(with_script(report, noise), encoding="utf-8")
    done = open_page(tmp_path, page.as_uri(), "--virtual-time-budget=4000", "--dump-dom")
    said = "\n".join(console(done))
    assert "seen" in said
    assert "Content Security Policy" in said


@pytest.mark.parametrize(("width", "height"), [(1280, 900), (500, 900)], ids=["desktop", "phone"])
def test_nothing_sticks_out(report: Path, tmp_path: Path, width: int, height: int) -> None:
    page = tmp_path / "probed.html"
    page.write_text(with_script(report, PROBE), encoding="utf-8")
    flags = (f"--window-size={width},{height}", "--virtual-time-budget=4000", "--dump-dom")
    done = open_page(tmp_path, page.as_uri(), *flags)
    found = re.search(r'data-probe="([^"]*)"', done.stdout)
    assert found is not None
    text = found.group(1).replace("&quot;", '"')
    assert '"wide":[]' in text, text
    assert '"fetched":[]' in text, text
    seen, page_width = (int(n) for n in re.findall(r'"(?:width|page)":(\d+)', text))
    assert page_width <= seen


def test_screenshot_is_not_blank(report: Path, tmp_path: Path) -> None:
    picture = tmp_path / "page.png"
    open_page(tmp_path, report.as_uri(), "--window-size=1280,1600", f"--screenshot={picture}")
    with PIL.Image.open(picture) as image:
        assert image.size == (1280, 1600)
        assert len(image.convert("L").resize((64, 80)).getcolors()) > 20


def test_prints_on_paper(report: Path, tmp_path: Path) -> None:
    paper = tmp_path / "page.pdf"
    open_page(tmp_path, report.as_uri(), f"--print-to-pdf={paper}", "--no-pdf-header-footer")
    content = paper.read_bytes()
    assert content.startswith(b"%PDF")
    assert content.count(b"/Type /Page\n") + content.count(b"/Type /Page ") >= 4
