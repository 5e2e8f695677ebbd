"""Log lines, which are sentences with fields: as text, as JSON, or as entries of the journal."""

import json
import logging
import sys
import time
from typing import Any

from daemon.config.settings import LogSettings
from daemon.service.journal import JournalHandler

FIELDS = ("source", "clip_id", "window", "topic", "partition", "offset", "reason")


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    return {name: getattr(record, name) for name in FIELDS if getattr(record, name, None) is not None}


class TextFormatter(logging.Formatter):
    """``12:00:00 WARNING Rejected as empty: ... [source=inbox clip_id=...]``."""

    def format(self, record: logging.LogRecord) -> str:
        fields = " ".join(f"{name}={value}" for name, value in _fields(record).items())
        stamp = time.strftime("%H:%M:%S", time.localtime(record.created))
        line = f"{stamp} {record.levelname:<7} {record.getMessage()}" + (f" [{fields}]" if fields else "")
        return line + (f"\n{self.formatException(record.exc_info)}" if record.exc_info else "")


class JournalFormatter(logging.Formatter):
    """Formats a record without time and level, which the journal keeps as fields of its own."""

    def format(self, record: logging.LogRecord) -> str:
        fields = " ".join(f"{name}={value}" for name, value in _fields(record).items())
        text = record.getMessage() + (f" [{fields}]" if fields else "")
        return text + (f"\n{self.formatException(record.exc_info)}" if record.exc_info else "")


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        row: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            "logger": record.name,
            **_fields(record),
        }
        if record.exc_info:
            row["exception"] = self.formatException(record.exc_info)
        return json.dumps(row, ensure_ascii=False, default=str)


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
    for chatty in ("kafka", "httpx", "watchfiles", "asyncio", "urllib3", "PIL"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    if settings.level != "debug":
        logging.getLogger("kafka").setLevel(logging.CRITICAL)  # its errors are outages, which are waited for and said
        logging.getLogger("vllm").setLevel(logging.ERROR)  # as in its own processes
