"""The page in a real browser: what is published appears, is text and is found, and what is wrong is said."""

import json
import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from connectors.contract import CaptionStatus
from testing.browser import Page
from tests.page.showing import TOKEN, Shown, clip, frames, rejection

pytestmark = pytest.mark.timeout(180)

Opened = Callable[..., Page]
HOSTILE = '<img src=x onerror="document.title=1"><script>document.title=2</script>{{7*7}}'
TEXTS = "[...document.querySelectorAll('.caption .text')].map(one => one.textContent)"


@pytest.fixture
def shown() -> Shown:
    return Shown()


def test_a_caption_appears_without_a_reload(shown: Shown, opened: Opened) -> None:
    with shown.served() as (port, call):
        page = opened(f"http://127.0.0.1:{port}/#token={TOKEN}")
        page.until("document.querySelector('#headline').textContent == 'Ready'")
        page("window.loaded = 1; new MutationObserver(() => { window.appeared ??= Date.now() })"
             ".observe(document.querySelector('#captions'), {childList: true})")  # fmt: skip
        published_ms = time.time() * 1000
        call(lambda: shown.publish(clip(), "A woman walks to the door."))
        page.until(f"{TEXTS}[0] == 'A woman walks to the door.'")
        took_ms = page("window.appeared") - published_ms
        call(lambda: shown.publish(clip(), "She rings.", first=1))
        page.until(f"{TEXTS}[0] == 'She rings.'")
        page.until("document.querySelector('img.strip')?.complete && document.querySelector('img.strip').naturalWidth")

        assert page("window.loaded") == 1
        assert page("location.hash") == ""  # the token is not left in the address
        assert page(f"{TEXTS}.length") == 2
        assert page.complaints() == []
    print(f"a caption appeared {took_ms:.0f} ms after it was published")
    assert took_ms < 60_000  # a second on an idle machine; a busy one is no failure


def test_what_others_wrote_is_text(shown: Shown, opened: Opened) -> None:
    mine = clip(HOSTILE + ".mp4", source="inbox")
    with shown.served() as (port, call):
        call(lambda: shown.publish(mine, HOSTILE))
        call(lambda: shown.feed.published(rejection(clip("b" + HOSTILE), detail=HOSTILE)))
        page = opened(f"http://127.0.0.1:{port}/#token={TOKEN}")
        page.until(f"{TEXTS}.length == 2")
        shown.parts.route.waiting_for = HOSTILE
        page.until("document.querySelector('.notice')?.textContent.includes('onerror')")
        page("document.querySelectorAll('.open')[1].click()")
        page.until("document.querySelector('#clip').open")

        assert page(TEXTS) == [HOSTILE, HOSTILE]
        assert page("document.querySelector('#clip-title').textContent") == HOSTILE + ".mp4"
        assert page("document.querySelectorAll('script').length") == 1
        assert page("[...document.querySelectorAll('img')].every(one => one.className == 'strip')")
        assert page("document.title").startswith("captiond")


def test_a_script_that_gets_in_all_the_same_does_not_run(shown: Shown, opened: Opened) -> None:
    with shown.served() as (port, _):
        page = opened(f"http://127.0.0.1:{port}/")
        page.until("document.querySelector('#headline').textContent == 'Ready'")

        with pytest.raises(RuntimeError, match="TrustedHTML"):
            page("document.body.innerHTML = '<img src=x onerror=window.hit=1>'")
        with pytest.raises(RuntimeError, match="TrustedScript"):
            page("document.querySelector('#words').setAttribute('oninput', 'window.hit = 1')")
        page("document.head.append(Object.assign(document.createElement('script'), {type: 'x'}))")
        assert page("window.hit") is None


def test_filters(shown: Shown, opened: Opened) -> None:
    with shown.served() as (port, call):
        call(lambda: shown.publish(clip("a.mp4"), "A red car.", "A blue car."))
        call(lambda: shown.publish(clip("b.mp4", source="gate"), "", status=CaptionStatus.EMPTY))
        call(lambda: shown.feed.published(rejection(clip("c.mp4"))))
        page = opened(f"http://127.0.0.1:{port}/")
        page.until(f"{TEXTS}.length == 4")

        def choose(control: str, value: str) -> list[str]:
            page(f"document.querySelector('#{control}').value = '{value}'")
            page(f"document.querySelector('#{control}').dispatchEvent(new Event('input'))")
            found: list[str] = page(TEXTS)
            return found

        assert choose("words", "CAR red") == ["A red car."]
        assert choose("words", "c.mp4") == ["it can't be decoded"]
        assert choose("words", "") == ["it can't be decoded", "No text", "A blue car.", "A red car."]
        page.until("document.querySelectorAll('#status option').length == 4")
        assert choose("status", "rejected") == ["it can't be decoded"]
        choose("status", "")
        assert choose("source", "gate") == ["No text"]
        call(lambda: shown.publish(clip("d.mp4"), "Elsewhere."))
        call(lambda: shown.publish(clip("e.mp4", source="gate"), "At the gate."))
        page.until(f"{TEXTS}[0] == 'At the gate.'")
        assert page(TEXTS) == ["At the gate.", "No text"]
        assert choose("words", "nothing has this") == []
        assert page("document.querySelector('#empty').textContent") == "No caption fits the filter."


def test_keys(shown: Shown, opened: Opened) -> None:
    with shown.served() as (port, call):
        call(lambda: shown.publish(clip("a.mp4"), "0", "1", "2"))
        page = opened(f"http://127.0.0.1:{port}/#token={TOKEN}")
        page.until(f"{TEXTS}.length == 3")

        page.press("j")
        page.press("j")
        at = page("document.activeElement.closest('.caption').querySelector('.text').textContent")
        page.press("Enter")
        page.until("document.querySelector('#clip').open")
        page.press("Escape")
        page.until("!document.querySelector('#clip').open")
        page.press("p")
        call(lambda: shown.publish(clip("a.mp4"), "3", first=3))
        page.until("document.querySelector('#count').textContent.endsWith('1 newer')")
        held = page(f"{TEXTS}.length")
        page.press("p")
        page.until(f"{TEXTS}.length == 4")
        page.press("/")

        assert (at, held) == ("1", 3)
        assert page("document.activeElement.id") == "words"


def test_it_says_what_is_wrong(shown: Shown, opened: Opened) -> None:
    with shown.served() as (port, _):
        page = opened(f"http://127.0.0.1:{port}/")
        page.until("document.querySelector('#headline').textContent == 'Ready'")
        assert "need the page's token" in page("document.querySelector('#notices').textContent")
        shown.parts.route.waiting_for = "the broker at 10.0.0.9:9092: it takes no connection"
        page.until("document.querySelector('#headline').textContent == 'Waiting'")

        assert "inbox waits" in page("document.querySelector('#notices').textContent")
        assert "takes no connection" in page("document.querySelector('#notices').textContent")
    page.until("document.querySelector('#headline').textContent == 'The daemon does not answer'")


def test_a_wrong_token_is_said(shown: Shown, opened: Opened) -> None:
    with shown.served() as (port, _):
        page = opened(f"http://127.0.0.1:{port}/#token=no")
        page.until("document.querySelector('#notices').textContent.includes('Text only')")

        assert page("document.querySelectorAll('img').length") == 0


def test_statuses_and_fields_that_it_does_not_know(shown: Shown, opened: Opened) -> None:
    with shown.served() as (port, call):
        call(lambda: shown.publish(clip("cam.mp4"), "A gap."))
        entry = next(iter(shown.feed.after(0)))
        message = json.loads(entry.message) | {"status": "dreaming", "stream": {"begins": "12:00", "late_s": 3}}
        call(lambda: shown.feed.put(replace(entry, number=2, message=json.dumps(message).encode())))
        call(shown.feed.wake)
        page = opened(f"http://127.0.0.1:{port}/")
        page.until(f"{TEXTS}.length == 2")

        said = page("document.querySelector('.caption .about').textContent")
        assert "dreaming" in said
        assert "late s 3" in said
        assert page.complaints() == []


def test_ten_thousand_captions(opened: Opened) -> None:
    """The heap stays small, and a frame is drawn in little time while more come."""
    shown = Shown(keep=10_000)
    words = "A delivery van stops at the gate, a man in a red jacket gets out and carries a parcel to the door. " * 3
    shown.publish(clip(), *(f"{number}: {words}" for number in range(10_000)))
    with shown.served() as (port, call):
        page = opened(f"http://127.0.0.1:{port}/#token={TOKEN}")
        page.until("document.querySelector('#count').textContent.includes('10,000')")
        page("window.frames_ms = []; (function next(then) { requestAnimationFrame(now => {"
             " if (then) window.frames_ms.push(now - then); next(now); }); })()")  # fmt: skip
        page("window.long_ms = []; new PerformanceObserver(list => window.long_ms.push("
             "...list.getEntries().map(one => one.duration))).observe({type: 'longtask'})")  # fmt: skip
        for number in range(10_000, 10_200):
            call(lambda number=number: shown.publish(clip(), f"{number}: {words}", first=number))
        page.until(f"{TEXTS}[0].startsWith('10199:')")
        page("document.querySelector('#older').click()")
        page.until(f"{TEXTS}[0].startsWith('10099:')")
        page("document.querySelector('#words').value = '555'")
        page("document.querySelector('#words').dispatchEvent(new Event('input'))")
        page.until(f"{TEXTS}.every(text => text.includes('555'))")
        drawn_ms = sorted(page("window.frames_ms"))
        page.call("HeapProfiler.collectGarbage")
        heap = page("performance.memory.usedJSHeapSize") / 2**20
        rows = page("document.querySelectorAll('.caption').length")
        longest = max(page("window.long_ms"), default=0)

    median, most = drawn_ms[len(drawn_ms) // 2], drawn_ms[-1]
    print(f"{rows} rows, {heap:.0f} MB; ms a frame: {median:.0f}, at most {most:.0f}; longest task: {longest:.0f}")
    assert heap < 100
    assert rows <= 100


def test_it_fits_a_phone(shown: Shown, opened: Opened) -> None:
    with shown.served() as (port, call):
        call(lambda: shown.publish(clip("x" * 300 + ".mp4"), "y" * 500))
        call(lambda: shown.feed.saw(clip("p.mp4"), frames(0, 8, size=(10, 1000))))
        page = opened(f"http://127.0.0.1:{port}/#token={TOKEN}", 320, 640)
        page.until(f"{TEXTS}.length == 1")

        assert page("document.documentElement.scrollWidth") <= 320
