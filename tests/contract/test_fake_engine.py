"""The fake engine keeps the contract, and its faults happen as scripted."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from connectors.errors import ConfigurationError, EngineLost, Transient
from daemon.engines.contract import Completion
from daemon.engines.fake import FakeEngine, FaultScript
from tests.contract.engine_contract import ASK, EngineContract
from tests.windows_of_noise import noise


@pytest.fixture
async def engine() -> AsyncIterator[FakeEngine]:
    fake = FakeEngine(delay_ms=1.0, slots=4)
    await fake.start()
    yield fake
    await fake.close()


class TestFakeEngine(EngineContract):
    pass


async def describe(engine: FakeEngine, clip: str, number: int = 0) -> Completion:
    return await engine.describe(noise(2, 4, 4), ASK, f"{clip}/0/{number}")


async def test_dies_at_the_nth_request_with_all_it_holds() -> None:
    engine = FakeEngine(delay_ms=10_000, script=FaultScript(die_at_request=3))
    held = [asyncio.create_task(describe(engine, "held", i)) for i in range(2)]
    await asyncio.sleep(0)

    with pytest.raises(EngineLost):
        await describe(engine, "third")
    with pytest.raises(EngineLost):
        await engine.wait_dead()
    with pytest.raises(EngineLost):
        await describe(engine, "later")

    assert [type(result) for result in await asyncio.gather(*held, return_exceptions=True)] == [EngineLost] * 2


async def test_dies_once_only_where_a_file_remembers(tmp_path: Path) -> None:
    script = FaultScript(die_at_request=1, once=tmp_path / "died")

    with pytest.raises(EngineLost):
        await describe(FakeEngine(script=script), "clip")

    assert (await describe(FakeEngine(script=script), "clip")).text


async def test_a_killer_clip_kills_whenever_it_is_there() -> None:
    script = FaultScript(kills=("killer",))

    for _ in range(2):
        engine = FakeEngine(script=script)
        assert (await describe(engine, "harmless")).text
        with pytest.raises(EngineLost):
            await describe(engine, "killer")


async def test_one_request_never_returns_while_others_do() -> None:
    engine = FakeEngine(script=FaultScript(never_returns=("lost",)))
    lost = asyncio.create_task(describe(engine, "lost"))
    await asyncio.sleep(0)

    assert (await describe(engine, "other")).text
    assert not lost.done()
    lost.cancel()
    await asyncio.gather(lost, return_exceptions=True)
    assert engine.aborted == ["lost/0/0"]


async def test_hangs_with_health_green() -> None:
    engine = FakeEngine(script=FaultScript(hang_at_request=2))
    assert (await describe(engine, "first")).text
    before = engine.progress
    hung = [asyncio.create_task(describe(engine, f"hung-{i}")) for i in range(3)]

    await asyncio.sleep(0.05)

    assert engine.progress == before
    assert not any(task.done() for task in hung)
    await engine.close()
    await asyncio.gather(*hung, return_exceptions=True)


async def test_finishes_out_of_order() -> None:
    engine, finished = FakeEngine(script=FaultScript(reverse_by=4)), list[int]()

    async def one(number: int) -> None:
        await describe(engine, "clip", number)
        finished.append(number)

    await asyncio.gather(*(one(number) for number in range(4)))

    assert finished == [3, 2, 1, 0]


async def test_empty_cut_off_and_failing_answers() -> None:
    script = FaultScript(empty=("quiet",), cut_off=("long",), fails=("shaky",), delays_ms={"slow": 5.0})
    engine = FakeEngine(script=script)

    assert (await describe(engine, "quiet")).text == ""
    assert (await describe(engine, "long")).truncated
    assert (await describe(engine, "slow")).engine_ms >= 5
    with pytest.raises(Transient):
        await describe(engine, "shaky")


def test_a_script_is_read_from_yaml(tmp_path: Path) -> None:
    path = tmp_path / "script.yaml"
    path.write_text("die_at_request: 7\nkills: [a, 12]\nonce: /tmp/x\n")

    assert FaultScript.read(path) == FaultScript(die_at_request=7, kills=("a", "12"), once=Path("/tmp/x"))


def test_a_scripts_unknown_key_is_named(tmp_path: Path) -> None:
    path = tmp_path / "script.yaml"
    path.write_text("dies: 7\n")

    with pytest.raises(ConfigurationError, match=r"engine\.script: unknown key dies"):
        FaultScript.read(path)
