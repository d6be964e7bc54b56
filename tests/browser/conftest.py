"""Fixtures of the browser tests: one headless Chromium for all, and functions that open pages.

`opened` opens a report from a file, and `visited` opens a page of the reference server. At the end
of a test, both fail it if its page logged a message, raised an error or opened a dialog. They also
fail it for a request to an address that the test does not allow.
"""

import shutil
from pathlib import Path

import pytest
from playwright.sync_api import expect, sync_playwright

from pytest_streamperf._report.html import html
from pytest_streamperf.wire.server import serve_app
from reference_impl import create_app
from tests.data.documents import sample


def pytest_addoption(parser):
    """Add `--pictures FOLDER`, which keeps the screenshots of the tests."""
    parser.addoption("--pictures", type=Path, metavar="FOLDER", help="keep the screenshots there")


@pytest.fixture(scope="session")
def chromium():
    """Start the Chromium on the PATH once per session, for example the one of Debian."""
    program = shutil.which("chromium")
    if program is None:
        pytest.fail("there is no chromium on the PATH: run `make test-browser`")
    with sync_playwright() as playwright:
        # Chromium refuses a sandbox as root; it opens only pages that this project wrote.
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def sample_page():
    """Return the HTML of a report with checks of all kinds."""
    return html(sample())


@pytest.fixture
def pictures(request, tmp_path):
    """Return the folder for screenshots: that of `--pictures`, or a temporary one."""
    folder = request.config.getoption("--pictures") or tmp_path
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture
def opened(chromium, tmp_path):
    """Return a function that opens HTML from a file; its options are those of a browser context."""
    contexts, requested_urls, complaints = [], [], []
    file = tmp_path / "report.html"

    def open_page(text, **options):
        file.write_text(text, encoding="utf-8")
        contexts.append(chromium.new_context(**options))
        page = contexts[-1].new_page()
        page.on("request", lambda request: requested_urls.append(request.url))
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: complaints.append(dialog.message))
        page.goto(file.as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert {url.partition("#")[0] for url in requested_urls} == {file.as_uri()}
    assert complaints == []


@pytest.fixture
def url():
    """Serve the reference server with its switches for one test, and yield its URL.

    The regressions that the test switches on end with the server.
    """
    with serve_app(create_app(debug=True)) as url:
        yield url


@pytest.fixture
def visited(chromium):
    """Return a function that opens a page of a server; its options are those of a browser context.

    The page may send requests to its own server and to the URLs in `allowed`.
    """
    contexts, complaints = [], []

    def visit(url, *, allowed=(), **options):
        contexts.append(
            chromium.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        )
        page = contexts[-1].new_page()
        own = (url.partition("?")[0], *allowed, "data:,")
        page.on(
            "request",
            lambda request: request.url.startswith(own) or complaints.append(request.url),
        )
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: complaints.append(dialog.message))
        page.goto(url)
        expect(page.locator("#probes button")).to_have_count(5)
        return page

    yield visit
    for context in contexts:
        context.close()
    assert complaints == []
