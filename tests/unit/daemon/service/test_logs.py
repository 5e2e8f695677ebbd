"""Log records on their way to the journal, and to standard error where there is none."""

import array
import logging
import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon.service.journal import JournalHandler, entry
from daemon.service.logs import FIELDS, JournalFormatter


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[socket.socket]:
    """A socket that listens where a journal would."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "journal"))
        listening.settimeout(5)
        yield listening


@pytest.fixture
def log(tmp_path: Path) -> Iterator[logging.Logger]:
    handler = JournalHandler(FIELDS, str(tmp_path / "journal"))
    handler.setFormatter(JournalFormatter())
    logger = logging.Logger("captiond.test")
    logger.addHandler(handler)
    yield logger
    handler.close()


def read(data: bytes) -> dict[str, str]:
    """Read an entry as the journal does."""
    found = {}
    while data:
        line, _, rest = data.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if not equals:
            (size,) = struct.unpack("<Q", rest[:8])
            value, rest = rest[8 : 8 + size], rest[8 + size + 1 :]
        found[name.decode()] = value.decode()
        data = rest
    return found


def test_a_record_is_an_entry_with_fields(journal: socket.socket, log: logging.Logger) -> None:
    log.warning("Rejected as %s.", "empty", extra={"clip_id": "a1", "source": "inbox", "window": 0})

    found = read(journal.recv(65536))
    assert (
        found.items()
        >= {
            "MESSAGE": "Rejected as empty. [source=inbox clip_id=a1 window=0]",
            "PRIORITY": "4",
            "SYSLOG_IDENTIFIER": "captiond",
            "LOGGER": "captiond.test",
            "CAPTIOND_CLIP_ID": "a1",
            "CAPTIOND_SOURCE": "inbox",
            "CAPTIOND_WINDOW": "0",
        }.items()
    )
    assert "CAPTIOND_TOPIC" not in found


def test_lines_and_equal_signs_stay_in_their_field(journal: socket.socket, log: logging.Logger) -> None:
    log.error("two\nlines", extra={"clip_id": "a=b\nPRIORITY=0"})

    found = read(journal.recv(65536))
    assert found["MESSAGE"].startswith("two\nlines")
    assert found["CAPTIOND_CLIP_ID"] == "a=b\nPRIORITY=0"
    assert found["PRIORITY"] == "3"


def test_an_error_brings_its_stack(journal: socket.socket, log: logging.Logger) -> None:
    try:
        raise ValueError("what is wrong")
    except ValueError:
        log.exception("It went wrong.")

    found = read(journal.recv(65536))
    assert found["MESSAGE"].startswith("It went wrong.\nTraceback")
    assert "what is wrong" in found["MESSAGE"]


def test_an_entry_that_is_too_long_for_a_datagram_goes_as_a_sealed_file(
    journal: socket.socket, log: logging.Logger
) -> None:
    log.info("x" * 2_000_000)

    data, ancillary, _, _ = journal.recvmsg(65536, socket.CMSG_LEN(4))
    assert data == b""
    (descriptor,) = array.array("i", ancillary[0][2])
    with os.fdopen(descriptor, "rb") as file:
        file.seek(0)
        assert len(read(file.read())["MESSAGE"]) == 2_000_000


def test_without_a_journal_lines_go_to_standard_error(log: logging.Logger, capsys: pytest.CaptureFixture[str]) -> None:
    log.error("two\nlines")

    assert capsys.readouterr().err == "<3>two\n<3>lines\n"


def test_text_that_is_no_unicode_does_not_stop_the_log() -> None:
    assert read(entry({"MESSAGE": "a\udcffb"}))["MESSAGE"] == "a?b"


def test_a_library_that_sets_up_its_own_logging_takes_nothing_from_the_journal(
    journal: socket.socket, log: logging.Logger
) -> None:
    """`logging.config.dictConfig` closes every handler of the process."""
    log.handlers[0].close()

    log.warning("Still there.")

    assert read(journal.recv(65536))["MESSAGE"] == "Still there."
