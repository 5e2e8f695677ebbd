"""An OpenAI-compatible server on loopback that refuses every request until it is told to answer."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MODEL = "shapes"
REFUSAL: dict[str, Any] = {"error": {"message": "At most 1 image(s) may be provided in one prompt."}}
ANSWER: dict[str, Any] = {
    "choices": [{"message": {"role": "assistant", "content": "A red circle."}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 40, "completion_tokens": 5},
}


class RefusingServer(ThreadingHTTPServer):
    """Refuses with ``refusal`` while ``refuses``, then answers every question with the same words."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.refuses = True
        self.context: int | None = None  # what it says of the model, where it says anything
        self.answer = ANSWER
        self.asked: list[dict[str, Any]] = []  # what came, the pictures left out

    @property
    def engine(self) -> str:
        """The YAML of an engine that asks this server."""
        return f"{{kind: openai, base_urls: ['http://127.0.0.1:{self.server_port}/v1'], model: {MODEL}}}"


class _Handler(BaseHTTPRequestHandler):
    server: RefusingServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Say which models there are."""
        model = {"id": MODEL} | ({"max_model_len": self.server.context} if self.server.context else {})
        self._say(200, {"data": [model]})

    def do_POST(self) -> None:
        """Refuse, or answer."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append({name: value for name, value in body.items() if name != "messages"})
        if self.server.refuses:
            self._say(400, REFUSAL)
        else:
            self._say(200, self.server.answer)

    def _say(self, status: int, body: dict[str, Any]) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing."""


@contextmanager
def refusing_server() -> Iterator[RefusingServer]:
    """Hold a server that runs."""
    server = RefusingServer()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
