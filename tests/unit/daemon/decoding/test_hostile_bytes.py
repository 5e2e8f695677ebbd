"""A child that was taken over answers any bytes: the program goes on."""

import asyncio
import contextlib
import struct
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from connectors.errors import Poison, Transient
from daemon.decoding.clip_plan import read_index, windows_from_answers
from daemon.decoding.fields import Choice, Form, Real, Text, Texts, Whole, Wholes, fields_of
from daemon.decoding.protocol import (
    ANSWERS,
    Alive,
    Answer,
    Planned,
    pack,
)
from daemon.windows import NS_PER_S
from tests.unit.daemon.decoding.hostile_child import (
    DECODED,
    FRAMES,
    INDEX,
    LIMITS,
    PLANNED,
    READY,
    VALID,
    WINDOWS,
    ask,
    framed,
)

pytestmark = pytest.mark.slow  # it starts decoders


def is_unharmed(said: bytes, started: bytes = pack(READY)) -> None:
    """Raise anything but what a clip's own failure raises."""
    with contextlib.suppress(Transient, Poison):
        asyncio.run(ask(said, started))
    with contextlib.suppress(Transient, Poison):
        windows_from_answers(said, LIMITS, WINDOWS, FRAMES)


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(st.binary(max_size=200))
@example(pack(Alive()) * 3)
def test_any_bytes_harm_nobody(said: bytes) -> None:
    is_unharmed(said)


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(ANSWERS), st.binary(max_size=200), st.binary(max_size=200))
def test_any_fields_of_any_message_harm_nobody(kind: type[Answer], header: bytes, block: bytes) -> None:
    is_unharmed(framed(kind, header, block))


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_a_message_with_any_byte_changed_harms_nobody(data: st.DataObject) -> None:
    said = bytearray(b"".join(pack(m, INDEX if m is PLANNED else b"") for m in (Alive(), PLANNED, DECODED)))
    for _ in range(data.draw(st.integers(1, 4))):
        said[data.draw(st.integers(0, len(said) - 1))] = data.draw(st.integers(0, 255))
    end = data.draw(st.integers(0, len(said)) | st.just(len(said)))

    is_unharmed(bytes(said[:end]))


def bytes_of(form: Form) -> st.SearchStrategy[bytes]:
    """Return bytes in place of a field's: any of its form, most of them out of its bounds, or no field at all."""
    number = {
        Whole: st.integers(-(2**63), 2**63 - 1).map(struct.Struct("<q").pack),
        Real: st.floats().map(struct.Struct("<d").pack),
        Choice: st.integers(0, 255).map(struct.Struct("<B").pack),
    }
    count = st.integers(0, 2**32 - 1).map(struct.Struct("<I").pack)
    long = st.integers(0, 5000).flatmap(
        lambda n: st.binary(min_size=n % 40, max_size=n % 40).map(lambda part: struct.pack("<I", len(part)) + part)
    )
    assert isinstance(form, (*number, Text, Texts, Wholes))
    return st.binary(max_size=40) | number.get(type(form), count | long)


@pytest.mark.parametrize("message", VALID, ids=lambda message: type(message).__name__)
@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_a_message_with_any_field_changed_harms_nobody(message: Answer, data: st.DataObject) -> None:
    forms = fields_of(type(message))
    changed = data.draw(st.sampled_from([name for name, _ in forms] or [""]))
    header = b"".join(
        data.draw(bytes_of(form)) if name == changed else form.write(getattr(message, name)) for name, form in forms
    )
    said = framed(type(message), header, INDEX if isinstance(message, Planned) else b"")

    is_unharmed(said)
    is_unharmed(pack(PLANNED, INDEX) + said)


@given(st.data())
def test_any_index_is_an_index_or_a_fault(data: st.DataObject) -> None:
    """Of a block, each of its numbers may be any, and its columns too."""
    block = bytearray(INDEX)
    for _ in range(data.draw(st.integers(1, 3))):
        at, number = data.draw(st.integers(0, len(block) - 8)), data.draw(st.integers(0, 2**64 - 1) | st.integers(0, 9))
        block[at : at + 8] = struct.pack("<Q", number)
    rest = data.draw(st.binary(max_size=17 * 50))
    packets = data.draw(st.just(50) | st.integers(1, 2**20))

    for made_up in (bytes(block), bytes(block) + rest):
        planned = replace(PLANNED, packets=packets, index_bytes=len(made_up))
        with contextlib.suppress(Transient):
            times = read_index(planned, made_up, LIMITS, keyframes=True)
            assert (np.diff(times.pts_ns) >= 0).all()
            assert 0 < times.duration_ns <= LIMITS.max_duration_s * NS_PER_S
