"""axe-core finds nothing serious on the page: wide and narrow, light and dark, with a clip open, empty and broken."""

import json
from collections.abc import Callable

import pytest

from connectors.contract import CaptionStatus
from testing.browser import Page
from testing.repository import ROOT
from tests.page.showing import TOKEN, Shown, clip, rejection

pytestmark = pytest.mark.timeout(300)

AXE = ROOT / "build" / "axe" / "axe.min.js"
TEXTS = "document.querySelectorAll('.caption').length"


def faults(page: Page) -> list[str]:
    """Return what axe-core finds serious, each with where it is."""
    found = json.loads(
        page("axe.run().then(all => JSON.stringify(all.violations.map(one =>"
             " [one.impact, one.id, one.nodes.map(node => node.target.join(' ') + ' ' + node.failureSummary)])))")
    )  # fmt: skip
    print([rule for _, rule, _ in found])
    return [f"{rule}: {places[:3]}" for impact, rule, places in found if impact in ("serious", "critical")]


@pytest.mark.parametrize("look", ["light", "dark", "phone", "clip", "empty", "broken"])
def test_nothing_serious_is_found(look: str, opened: Callable[..., Page]) -> None:
    if not AXE.is_file():
        pytest.skip("no axe-core: `python scripts/fetch_axe.py` brings it (needs npm)")
    shown = Shown()
    with shown.served() as (port, call):
        if look not in ("empty", "broken"):
            for status in CaptionStatus:
                call(lambda status=status: shown.publish(clip(f"{status}.mp4"), "A porch.", status=status))
            call(lambda: shown.feed.published(rejection(clip("bad.mp4"))))
        if look == "broken":
            shown.parts.route.waiting_for = "the broker at 10.0.0.9:9092: it takes no connection"
        page = opened(f"http://127.0.0.1:{port}/#token={TOKEN}", 390 if look == "phone" else 1280)
        page.dark(look == "dark")
        page.until(f"{TEXTS} == {0 if look in ('empty', 'broken') else len(CaptionStatus) + 1}")
        page.until("document.querySelector('#charts').children.length == 4")
        if look == "clip":
            page("document.querySelector('.caption:last-child .open').click()")
            page.until("document.querySelector('#clip').open")
        page.call("Page.setBypassCSP", enabled=True)
        page("new Promise(resolve => setTimeout(resolve, 800))")  # what arrived fades in
        page(AXE.read_text() + "; 0")

        assert faults(page) == []
