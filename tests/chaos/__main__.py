"""The fault matrix, from the command line: `make chaos`, `make chaos ROW=K1 RUNS=20`, `make chaos-quick`."""

import argparse
import contextlib
import os
import sys
import tempfile
from pathlib import Path

from tests.chaos import clock_rows, engine_rows, folder_rows, replica_rows, soak_rows, stream_rows, unit_rows, vllm_rows
from tests.chaos.kafka import broker_rows, group_rows, kill_rows, message_rows, network_rows, stop_rows
from tests.chaos.kafka import cluster as kafka_cluster
from tests.chaos.table import Row, run_rows


def main() -> int:
    """Run the rows asked for; 0 when every promise held."""
    parser = argparse.ArgumentParser(prog="make chaos")
    parser.add_argument("--row", help="only rows whose name begins so")
    parser.add_argument("--runs", type=int, help="how many faults a row strikes")
    parser.add_argument("--keep", type=Path, help="a folder for what the rows write: configurations, logs, journals")
    parser.add_argument("--quick", action="store_true", help="the counts of CI")
    asked = parser.parse_args()
    on_folders = (folder_rows, engine_rows, vllm_rows, replica_rows, clock_rows, stream_rows, unit_rows, soak_rows)
    on_kafka = (kill_rows, stop_rows, broker_rows, network_rows, group_rows, message_rows)
    kafka = {row: None for module in on_kafka for row in module.ROWS}
    every = [*(row for module in on_folders for row in module.ROWS), *kafka]
    rows = [row for row in every if asked.row is None or row.name.lower().startswith(asked.row.lower())]
    if not rows:
        print(f"There is no row {asked.row!r}: {', '.join(row.name for row in every)}.", file=sys.stderr)
        return 64
    if any(row in kafka for row in rows) and (why := kafka_cluster.missing()):
        print(f"The Kafka rows are left out: {why}. Set KAFKA_HOME, or install Java and Maven.", file=sys.stderr)
        if os.environ.get("CI") == "true":
            return 1
        rows = [row for row in rows if row not in kafka]
    elif any(row in kafka for row in rows):
        kafka_cluster.cluster()  # a broker ends with the thread that started it, so that is this one

    def runs_of(row: Row) -> int:
        if asked.runs is not None:
            return asked.runs
        return row.quick if asked.quick else row.full

    with contextlib.ExitStack() as stack:
        folder = asked.keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="captiond-chaos-")))
        return 0 if run_rows(rows, runs_of, folder.resolve()) else 1


if __name__ == "__main__":
    sys.exit(main())
