"""A real Prometheus scrapes a running daemon: it takes the rules, and every query of the dashboard is answered."""

import json
import shutil
import signal
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import yaml

from testing.load import write_load_clip
from testing.ports import free_ports
from testing.repository import ROOT
from tests.deploy.queries import ALERTS, panels, rules

pytestmark = pytest.mark.timeout(300)

# what a daemon with the fake engine and a folder has no samples of
SILENT = (
    "captiond_engine_replica",
    "captiond_engine_kv_cache",
    "captiond_engine_queue",
    "captiond_clip_retries",
    "captiond_bad_captions",
    "captiond_questions_again",
    "captiond_windows_unchanged",
    "captiond_tokens_saved",
    "captiond_hwaccel",
    "captiond_source_paused",
    "captiond_source_events",
    "captiond_render",
    "captiond_stream",
    "captiond_windows_waiting",
    "captiond_frames_substituted",
)
CONFIG = """
sources: {{yard: {{kind: folder, path: inbox, settle_s: 0.1}}}}
sink: {{kind: folder, path: captions}}
windows: {{window_s: 1, stride_s: 1}}
frames: {{num_frames: 2}}
engine: {{kind: fake}}
http: {{listen: "127.0.0.1:{port}"}}
state_dir: state
"""


class Served:
    """The API of a Prometheus that scrapes a daemon."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}/api/v1"

    def ask(self, what: str, **arguments: str) -> Any:
        url = f"{self._url}/{what}?{urllib.parse.urlencode(arguments)}"
        with urllib.request.urlopen(url, timeout=30) as answer:  # noqa: S310 - of this machine
            said = json.load(answer)
        assert said["status"] == "success", said
        return said["data"]

    def found(self, query: str) -> list[Any]:
        return list(self.ask("query", query=query)["result"])


def wait_for(condition: Callable[[], object], what: str) -> None:
    deadline_s = time.monotonic() + 120
    while True:
        try:
            if condition():
                return
        except OSError:
            pass
        assert time.monotonic() < deadline_s, what
        time.sleep(0.2)


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("no Prometheus: Debian's package prometheus brings it")
    folder = tmp_path_factory.mktemp("prometheus")
    daemon_port, own_port = free_ports(2)
    (folder / "inbox").mkdir()
    (folder / "captiond.yaml").write_text(CONFIG.format(port=daemon_port))
    config = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.yaml").read_text())
    config["global"] = {"scrape_interval": "500ms", "scrape_timeout": "500ms", "evaluation_interval": "1s"}
    config["scrape_configs"][0]["static_configs"][0]["targets"] = [f"127.0.0.1:{daemon_port}"]
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(config))
    shutil.copy(ALERTS, folder)
    commands = [
        [sys.executable, "-m", "daemon", "run", "-c", str(folder / "captiond.yaml")],
        [
            program,
            f"--config.file={folder / 'prometheus.yaml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{own_port}",
        ],
    ]
    running = []
    try:
        for command in commands:
            with (folder / f"{len(running)}.log").open("wb") as log:
                running.append(subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log))
        served = Served(own_port)
        wait_for(lambda: served.found("captiond_ready == 1"), (folder / "0.log").read_text())
        for number in range(3):
            write_load_clip(folder / "inbox" / f"{number}.mp4")
        (folder / "inbox" / "broken.mp4").write_bytes(b"no video")
        wait_for(lambda: served.found("captiond_clips_done_total == 3"), (folder / "0.log").read_text())
        wait_for(lambda: served.found("sum(captiond_clips_rejected_total) == 1"), (folder / "0.log").read_text())
        yield served
    finally:
        for process in running:
            process.send_signal(signal.SIGTERM)
        for process in running:
            process.wait(60)


def test_every_query_of_the_dashboard_is_answered(prometheus: Served) -> None:
    asked = [one for one in panels() if not any(name in one[1] for name in SILENT)]
    assert asked

    for title, query in asked:  # a rate is there from the second scrape on that has its metric
        wait_for(partial(prometheus.found, query), f"{title}: {query}")


def test_the_rules_are_taken_and_healthy_and_nothing_fires(prometheus: Served) -> None:
    def evaluated() -> list[Any]:
        groups = prometheus.ask("rules")["groups"]
        return [rule for group in groups for rule in group["rules"]]

    wait_for(lambda: all(rule["health"] == "ok" for rule in evaluated()), "the rules' first evaluation")
    assert {rule["name"] for rule in evaluated()} == {rule.get("alert") or rule["record"] for rule in rules()}
    assert prometheus.found('ALERTS{alertstate="firing"}') == []
    for rule in rules():
        prometheus.found(rule["expr"])
