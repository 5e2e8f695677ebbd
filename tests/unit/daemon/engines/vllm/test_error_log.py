"""What processes log as errors arrives here whole, whoever logs it, and nobody waits for it."""

import json
import os
import pickle
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from daemon.engines.vllm.error_log import CONFIG_VARIABLE, ErrorLog, LoggedError, may_collect

OWN = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"plain": {"format": "%(message)s"}},
    "handlers": {"vllm": {"class": "logging.StreamHandler", "formatter": "plain", "stream": "ext://sys.stdout"}},
    "loggers": {"vllm": {"handlers": ["vllm"], "level": "INFO", "propagate": False}},
}
PROCESS = """
import json, logging, logging.config, os, sys
logging.config.dictConfig(json.load(open(os.environ["VLLM_LOGGING_CONFIG_PATH"])))
log = logging.getLogger("vllm.v1.engine.core")
log.error("a line without a stack")
try:
    try:
        raise OSError("the first")
    except OSError as error:
        raise ValueError(sys.argv[1]) from error
except ValueError:
    log.exception("it failed to start")
"""


@pytest.fixture
def log() -> Iterator[ErrorLog]:
    opened = ErrorLog()
    yield opened
    opened.close()


def run(environment: Mapping[str, str], message: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", PROCESS, message]
    return subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=True)


def test_the_last_exception_is_the_cause_with_its_whole_message(log: ErrorLog) -> None:
    environment = log.open(OWN, {})
    run(environment, "an earlier one")
    said = run(environment, "the model's\n  second line")

    cause = log.cause()

    assert cause is not None
    assert (cause.kind, cause.message) == ("ValueError", "the model's\n  second line")
    assert "OSError: the first" in cause.stack
    assert "it failed to start" in said.stdout  # vLLM's own handler goes on as it was


def test_a_process_that_only_saw_another_fail_has_no_cause(log: ErrorLog) -> None:
    environment = log.open(OWN, {})
    run(environment, "CUDA out of memory")
    run(environment, "WorkerProc initialization failed. See stack trace for root cause.")

    cause = log.cause()

    assert cause is not None
    assert cause.message == "CUDA out of memory"


def test_after_the_start_a_process_logs_on_and_complains_of_nothing(log: ErrorLog) -> None:
    environment = log.open(OWN, {})
    kept = Path(environment[CONFIG_VARIABLE]).read_text()
    log.close()
    elsewhere = Path(environment[CONFIG_VARIABLE] + ".kept")
    elsewhere.parent.mkdir()
    elsewhere.write_text(kept)

    said = run({CONFIG_VARIABLE: str(elsewhere)}, "too late")

    assert "too late" in said.stdout
    assert said.stderr == ""
    assert log.cause() is None
    elsewhere.unlink()
    elsewhere.parent.rmdir()


def test_the_operators_own_logging_stays_and_is_added_to(log: ErrorLog, tmp_path: Path) -> None:
    theirs = tmp_path / "logging.json"
    theirs.write_text(json.dumps({**OWN, "formatters": {"plain": {"format": "THEIRS %(message)s"}}}))

    environment = log.open(OWN, {CONFIG_VARIABLE: str(theirs)})
    said = run(environment, "it broke")

    assert "THEIRS it failed to start" in said.stdout
    assert (cause := log.cause()) is not None
    assert cause.message == "it broke"


@pytest.mark.parametrize("text", [None, "{", "[]"])
def test_an_operators_file_that_is_none_is_left_to_vllm(log: ErrorLog, tmp_path: Path, text: str | None) -> None:
    theirs = tmp_path / "logging.json"
    if text is not None:
        theirs.write_text(text)

    assert log.open(OWN, {CONFIG_VARIABLE: str(theirs)}) == {}
    assert log.cause() is None


class Harmful:
    def __reduce__(self) -> tuple[object, ...]:
        return os.putenv, ("CAPTIOND_WAS_HARMED", "1")


@pytest.mark.parametrize(
    "sent",
    [
        pickle.dumps({"exc_text": Harmful()}),
        pickle.dumps(["no", "record"]),
        pickle.dumps({"exc_text": 5}),
        b"no pickle",
        b"",
    ],
)
def test_what_is_no_record_is_left_out(log: ErrorLog, sent: bytes) -> None:
    environment = log.open(OWN, {})
    run(environment, "the cause")
    config = json.loads(Path(environment[CONFIG_VARIABLE]).read_text())
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other:
        other.connect(config["handlers"]["captiond"]["host"])
        other.sendall(struct.pack(">L", len(sent)) + sent + struct.pack(">L", 10**6) + b"cut off")

    assert (cause := log.cause()) is not None
    assert cause.message == "the cause"


@pytest.mark.parametrize(
    ("stack", "kind", "message"),
    [
        ("Traceback (most recent call last):\n  File 'a'\n    x()\nKeyError: 'w'", "KeyError", "'w'"),
        ("Traceback (most recent call last):\n  File 'a'\nMemoryError", "MemoryError", ""),
        ("Traceback (most recent call last):\n  f\ntorch.OutOfMemoryError: CUDA", "torch.OutOfMemoryError", "CUDA"),
    ],
)
def test_the_last_lines_of_a_stack_name_the_exception(stack: str, kind: str, message: str) -> None:
    logged = LoggedError.of_stack(stack)

    assert logged is not None
    assert (logged.kind, logged.message) == (kind, message)


def test_what_is_no_stack_names_none() -> None:
    assert LoggedError.of_stack("") is None
    assert LoggedError.of_stack("  only\n  indented") is None


@pytest.mark.parametrize(
    ("args", "environment"),
    [
        ({"distributed_executor_backend": "ray"}, {}),
        ({"data_parallel_backend": "ray"}, {}),
        ({"nnodes": 2}, {}),
        ({"log_config_file": "theirs.json"}, {}),
        ({}, {"VLLM_CONFIGURE_LOGGING": "0"}),
    ],
)
def test_processes_elsewhere_and_other_logging_are_left_alone(
    args: dict[str, object], environment: dict[str, str]
) -> None:
    assert not may_collect(args, environment)
    assert may_collect({"nnodes": 1, "max_num_seqs": 4}, {})
