"""The book and a live JupyterLab in a real browser, as a reader and a learner meet them; skipped without."""

import contextlib
import functools
import http.server
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from authoring.manifest import read

ROOT = Path(__file__).resolve().parents[1]
NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
CHROMIUM = next((path for name in NAMES if (path := shutil.which(name))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine")

WRONG = """def error_after(H, error, eta, num_steps):
    return np.linalg.eigh(H)[1].T @ error * (1 - eta * np.linalg.eigvalsh(H)) ** num_steps"""
RIGHT = """def error_after(H, error, eta, num_steps):
    return np.linalg.matrix_power(np.eye(len(H)) - eta * H, num_steps) @ error"""
RUN_TO_THE_END = 180_000  # ms


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        flags = [
            "--no-sandbox",
            "--disable-gpu",
            "--disable-background-networking",
            "--disable-component-update",
        ]
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield opened
        opened.close()


@contextlib.contextmanager
def opened(browser, address, *, width=1280, height=900, scheme="light"):
    """A page at `address`; afterwards there was no error in it and no call to any other machine."""
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
    page, wrong = context.new_page(), []
    page.on("console", lambda m: wrong.append(f"{m.text} ({m.location})") if m.type == "error" else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    outside = re.compile(r"^(?!https?://127\.0\.0\.1|wss?://127\.0\.0\.1|data:|blob:|about:)")
    page.on("request", lambda r: wrong.append(f"asked for {r.url}") if outside.match(r.url) else None)
    page.goto(address, wait_until="load")
    yield page
    context.close()
    assert not wrong


# ---------------------------------------------------------------------------------- the book


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    target = tmp_path_factory.mktemp("browsed") / "html"
    subprocess.run([sys.executable, str(ROOT / "authoring" / "book.py"), str(target)], check=True, cwd=ROOT)
    handler = functools.partial(Quiet, directory=str(target))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


class Quiet(http.server.SimpleHTTPRequestHandler):
    """A server of files that says nothing."""

    def log_message(self, *arguments):
        pass


def test_search_finds_lanczos(browser, book):
    with opened(browser, f"{book}/search.html?q=Lanczos") as page:
        page.locator("#search-results li").first.wait_for(timeout=20_000)
        found = page.locator("#search-results").inner_text()
        assert "04 · Hessians without matrices" in found


def test_formulas_and_figures_are_drawn(browser, book):
    for lesson in (x for x in read(ROOT).lessons.values() if x.stands and x.id in ("02", "07")):
        with opened(browser, f"{book}/lessons/{lesson.stem}.html") as page:
            page.locator("mjx-container svg").first.wait_for(state="attached", timeout=20_000)
            assert page.locator("mjx-merror, [data-mjx-error]").count() == 0
            drawn = "[...document.querySelectorAll('article img')].map(i => i.complete ? i.naturalWidth : 0)"
            page.wait_for_function(f"{drawn}.length > 2 && Math.min(...{drawn}) > 100")


@pytest.mark.parametrize(("width", "scheme"), [(390, "light"), (390, "dark"), (1280, "dark")])
def test_pages_fit_a_phone_and_the_dark(browser, book, width, scheme):
    for name in (
        "index",
        "scoreboard",
        "tracks",
        "handout",
        "lessons/07_edge_of_stability",
        "library/lanczos",
    ):
        with opened(browser, f"{book}/{name}.html", width=width, scheme=scheme) as page:
            assert page.evaluate("document.documentElement.scrollWidth") <= width, name
            ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
            light = sum(map(int, re.findall(r"\d+", ground)[:3])) > 384
            assert light == (scheme == "light"), name


# ---------------------------------------------------------------------------------- JupyterLab


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """JupyterLab on a copy of the notebooks, with settings of its own."""
    folder = tmp_path_factory.mktemp("lab")
    for name in ("lessons", "exercises"):
        shutil.copytree(ROOT / name, folder / name)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "jupyter", "lab", "--no-browser", "--allow-root", "--log-level=ERROR"]
    command += [f"--ServerApp.port={port}", "--ServerApp.port_retries=0", "--IdentityProvider.token="]
    command += [f"--ServerApp.root_dir={folder}"]
    own = {name: str(folder / name) for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "IPYTHONDIR")}
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    server = subprocess.Popen(command, env={**os.environ, **own, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"})
    for _ in range(600):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.1)
    yield f"http://127.0.0.1:{port}/lab/tree"
    server.terminate()
    server.wait()


@contextlib.contextmanager
def notebook(browser, lab, path):
    """A notebook in JupyterLab, its kernel ready."""
    with opened(browser, f"{lab}/{path}?reset", width=1400) as page:
        page.locator(".jp-NotebookPanel .jp-Cell").first.wait_for(timeout=60_000)
        idle(page)
        yield page


def idle(page, timeout=60_000):
    page.locator(".jp-Notebook-ExecutionIndicator[data-status=idle]").first.wait_for(
        state="attached", timeout=timeout
    )


def run_all(page):
    """Run every cell. A click that comes before the kernel's connection is ready is lost: click again."""
    started = page.locator(".jp-InputPrompt", has_text=re.compile(r"\[\*\]")).first
    for _ in range(5):
        page.get_by_role("menuitem", name="Run", exact=True).click()
        page.get_by_text("Run All Cells", exact=True).click()
        with contextlib.suppress(Exception):
            started.wait_for(timeout=4_000)
            break
    idle(page, RUN_TO_THE_END)


@pytest.mark.parametrize("stem", ["02_gradient_descent_on_quadratics", "03_momentum_and_acceleration"])
def test_a_lesson_runs_to_its_end_and_each_slider_changes_its_figure(browser, lab, stem):
    with notebook(browser, lab, f"lessons/{stem}.ipynb") as page:
        run_all(page)
        handles = page.locator(".jp-Notebook .noUi-handle")
        handles.first.scroll_into_view_if_needed()
        picture = page.locator(".widget-html-content img, .jupyter-widgets img").first
        picture.wait_for(timeout=20_000)
        assert handles.count() == {"02": 1, "03": 2}[stem[:2]]
        for index in range(handles.count()):
            before = picture.get_attribute("src")
            handles.nth(index).focus()
            for _ in range(5):
                page.keyboard.press("ArrowRight")
            changed = "old => document.querySelector('.widget-html-content img').src !== old"
            page.wait_for_function(changed, arg=before, timeout=20_000)
        assert len(picture.get_attribute("alt")) >= 40
        assert page.locator('[data-mime-type="application/vnd.jupyter.stderr"]').count() == 0
        assert page.locator('[data-mime-type="application/vnd.jupyter.error"]').count() == 0


def test_an_exercise_answered_wrongly_then_rightly_says_so(browser, lab):
    with notebook(browser, lab, "exercises/02_gradient_descent_on_quadratics.ipynb") as page:
        run_all(page)
        assert "not attempted" in feedback(page)
        answer(page, WRONG)
        assert "error_after: not yet." in feedback(page)
        assert "Go back: V @ c" in feedback(page)  # the mistake by its name
        answer(page, RIGHT)
        assert feedback(page).strip() == "error_after: passed."


def answer(page, text):
    """Put `text` into the cell of error_after, run it and the check below it."""
    cell = page.locator(".jp-CodeCell", has_text="def error_after").first
    cell.locator(".cm-content").click()
    page.keyboard.press("Control+a")
    page.keyboard.insert_text(text)
    page.keyboard.press("Shift+Enter")
    page.keyboard.press("Shift+Enter")
    page.wait_for_timeout(1_000)
    idle(page)


def feedback(page):
    """What the check of error_after says."""
    cell = page.locator(".jp-CodeCell", has_text="check_error_after(").first
    output = cell.locator(".jp-OutputArea-output pre").last
    output.wait_for(state="attached", timeout=20_000)
    return output.text_content()  # the inner text of a cell out of sight is empty
