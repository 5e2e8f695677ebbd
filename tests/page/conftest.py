"""One browser for all tests of the page."""

import os
from collections.abc import Callable, Iterator

import pytest

from testing import browser
from testing.browser import Page, browsing


@pytest.fixture(scope="session")
def new_page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Page]]:
    """What opens pages; without a browser the test is skipped, and in CI it fails."""
    if browser.program() is None:
        if os.environ.get("CI"):
            pytest.fail(browser.NONE)
        pytest.skip(browser.NONE)
    with browsing(tmp_path_factory.mktemp("profile")) as pages:
        yield pages


@pytest.fixture
def opened(new_page: Callable[..., Page]) -> Iterator[Callable[..., Page]]:
    """Open an address in a page of its own, which is closed after the test."""
    pages: list[Page] = []

    def open_address(address: str, width: int = 1280, height: int = 900) -> Page:
        pages.append(new_page(width, height))
        pages[-1].open(address)
        return pages[-1]

    yield open_address
    for page in pages:
        page.close()
