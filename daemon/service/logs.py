"""Log lines, which are sentences with fields: as text, as JSON, or as entries of the journal.

What a record says may come from outside: a file's name, a message's id, an error of a library that quotes either. So
every format writes what would control a terminal as codes, and masks the secrets of URLs. A line of text is one record,
or stands under one with an indent: nobody outside can write a line that looks like another record.
"""

import json
import logging
import re
import sys
import time
from typing import Any

from connectors.messages.safe_text import escaped, escaped_json, escaped_lines
from connectors.messages.url_secrets import mask_urls
from daemon.config.settings import LogSettings
from daemon.service.journal import JournalHandler

FIELDS = ("source", "clip_id", "window", "topic", "partition", "offset", "reason")

_INDENT = "    "
_PLAIN_VALUE = re.compile(r"[^\s\"=\[\]]+")  # others are quoted, so that none can pass for several


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    return {name: getattr(record, name) for name in FIELDS if getattr(record, name, None) is not None}


def _bracketed(record: logging.LogRecord) -> str:
    fields = " ".join(f"{name}={_field_value(value)}" for name, value in _fields(record).items())
    return f" [{fields}]" if fields else ""


def _field_value(value: object) -> str:
    text = escaped(mask_urls(str(value)))
    return text if _PLAIN_VALUE.fullmatch(text) else json.dumps(text, ensure_ascii=False)


class _Formatter(logging.Formatter):
    """The parts of a record that all formats have, their secrets masked."""

    def message(self, record: logging.LogRecord) -> str:
        """Return the sentence."""
        return mask_urls(record.getMessage())

    def stack(self, record: logging.LogRecord) -> str:
        """Return the stack of an exception; empty where there is none."""
        return mask_urls(self.formatException(record.exc_info)) if record.exc_info else ""


class TextFormatter(_Formatter):
    """``12:00:00 WARNING Rejected as empty: ... [source=inbox clip_id=...]``."""

    def format(self, record: logging.LogRecord) -> str:
        stamp = time.strftime("%H:%M:%S", time.localtime(record.created))
        has_lines = "\n" in str(record.msg)  # as it was written here; what is put into it has none
        text = self.message(record)
        shown = escaped_lines(text, _INDENT) if has_lines else escaped(text)
        line = f"{stamp} {record.levelname:<7} {shown}{_bracketed(record)}"
        stack = self.stack(record)
        return line + (f"\n{_INDENT}{escaped_lines(stack, _INDENT)}" if stack else "")


class JournalFormatter(_Formatter):
    """Formats a record without time and level, which the journal keeps as fields of its own."""

    def format(self, record: logging.LogRecord) -> str:
        text = escaped_lines(self.message(record)) + _bracketed(record)
        stack = self.stack(record)
        return text + (f"\n{escaped_lines(stack)}" if stack else "")


class JsonFormatter(_Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        row: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "message": self.message(record),
            "logger": record.name,
            **_fields(record),
        }
        if stack := self.stack(record):
            row["exception"] = stack
        return escaped_json(json.dumps(row, ensure_ascii=False, default=str))


_FORMATTERS: dict[str, type[logging.Formatter]] = {
    "text": TextFormatter,
    "json": JsonFormatter,
    "journal": JournalFormatter,
}


def set_up(settings: LogSettings) -> None:
    """Send every log record of this process to stderr in the format asked for, or to the journal as an entry."""
    native = settings.format == "journal"
    handler: logging.Handler = JournalHandler(FIELDS) if native else logging.StreamHandler(sys.stderr)
    handler.setFormatter(_FORMATTERS[settings.format]())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.level.upper())
    stores = ("aiohttp", "fsspec", "botocore", "boto3", "s3fs", "gcsfs", "adlfs", "azure", "google")
    for chatty in ("kafka", "httpx", "httpcore", "watchfiles", "asyncio", "urllib3", "PIL", *stores):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    if settings.level != "debug":
        logging.getLogger("kafka").setLevel(logging.CRITICAL)  # its errors are outages, which are waited for and said
        logging.getLogger("vllm").setLevel(logging.ERROR)  # as in its own processes
