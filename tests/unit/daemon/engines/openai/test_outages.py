"""Servers that are away, hang or are busy: another one takes the request, or they are waited for."""

import asyncio
from collections.abc import Callable

import httpx
import pytest

from connectors.errors import Reason, Transient
from tests.unit.daemon.engines.openai.chat_servers import ASK, WINDOW, Servers, answer, never, refused, started

pytestmark = pytest.mark.usefixtures("short_pauses")


async def test_the_least_busy_server_is_asked(servers: Servers) -> None:
    engine = await started(servers)
    servers.may_answer.clear()
    requests = [asyncio.create_task(engine.describe(WINDOW, ASK, f"clip/{i}/{i}")) for i in range(8)]
    while len(servers.asked) < 8:
        await asyncio.sleep(0.01)

    assert [host for host, _ in servers.asked].count("one") == 4
    servers.may_answer.set()
    await asyncio.gather(*requests)
    await engine.close()


async def test_idle_servers_take_turns(servers: Servers) -> None:
    engine = await started(servers)

    for number in range(4):
        await engine.describe(WINDOW, ASK, f"clip/{number}/{number}")

    assert [host for host, _ in servers.asked] == ["one", "two", "one", "two"]
    await engine.close()


@pytest.mark.parametrize("fault", [refused, lambda: httpx.Response(503), lambda: httpx.Response(429)])
async def test_another_server_takes_what_one_can_not(servers: Servers, fault: Callable[[], httpx.Response]) -> None:
    engine = await started(servers)
    servers.reply["one"] = fault

    done = await asyncio.gather(*(engine.describe(WINDOW, ASK, f"clip/{i}/{i}") for i in range(6)))

    assert {one.text for one in done} == {"A red circle."}
    await engine.close()


async def test_servers_that_are_away_are_waited_for(servers: Servers) -> None:
    deadline_s = 0.5  # shorter than the outage: waiting does not count
    engine = await started(servers, deadline_s=deadline_s)
    servers.reply = dict.fromkeys(("one", "two"), refused)
    request = asyncio.create_task(engine.describe(WINDOW, ASK, "clip/0/0"))
    while not engine.waiting_for:
        await asyncio.sleep(0.01)
    await asyncio.sleep(deadline_s)
    assert not request.done()
    assert "connection refused" in engine.waiting_for

    servers.reply = {}

    assert (await request).text == "A red circle."
    assert engine.waiting_for == ""
    await engine.close()


async def test_the_start_waits_for_a_server(servers: Servers) -> None:
    servers.reply = dict.fromkeys(("one", "two"), refused)
    start = asyncio.create_task(started(servers))
    await asyncio.sleep(0.1)
    assert not start.done()

    servers.reply = {}

    await (await start).close()


async def test_a_request_that_is_never_answered_is_a_deadline(servers: Servers) -> None:
    """The server has a word for others, so it is the request's fault: the clip's attempts count."""
    engine = await started(servers)
    servers.reply = dict.fromkeys(("one", "two"), lambda: answer("Yes.") if servers.is_without_frames() else never())

    with pytest.raises(Transient) as late:
        await engine.describe(WINDOW, ASK, "clip/0/0")

    assert late.value.reason == Reason.ENGINE_DEADLINE
    await engine.close()


async def test_servers_that_hang_are_waited_for(servers: Servers) -> None:
    engine = await started(servers)
    servers.reply = dict.fromkeys(("one", "two"), never)
    requests = [asyncio.create_task(engine.describe(WINDOW, ASK, f"clip/{i}/{i}")) for i in range(4)]
    while "no answer within" not in engine.waiting_for:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)
    assert not any(request.done() for request in requests)
    assert "no answer within" in engine.waiting_for

    servers.reply = {}

    assert {one.text for one in await asyncio.gather(*requests)} == {"A red circle."}
    await engine.close()


async def test_a_server_that_hangs_beside_one_that_answers_costs_no_clip_an_attempt(servers: Servers) -> None:
    engine = await started(servers)
    servers.reply["one"] = never

    done = await asyncio.gather(*(engine.describe(WINDOW, ASK, f"clip/{i}/{i}") for i in range(12)))

    assert {one.text for one in done} == {"A red circle."}
    await engine.close()
