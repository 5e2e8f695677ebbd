"""The process that fuzzes one target: ``python -m tests.fuzz.one TARGET LIBFUZZER-OPTION ...``."""

import logging
import sys

import atheris

# what is looked at for coverage: the product, and what reads for it
with atheris.instrument_imports(include=["connectors", "daemon.decoding", "neva.evaluate", "tarfile"]):
    from tests.fuzz.targets import TARGETS


def main() -> None:
    """Fuzz until libFuzzer's limits."""
    target, *options = sys.argv[1:]
    logging.disable()
    atheris.Setup([sys.argv[0], *options], TARGETS[target])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
