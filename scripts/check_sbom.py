"""Whether a CycloneDX document names each package of a lock file, with its version and its hashes."""

import json
import re
import sys
from pathlib import Path

_PIN = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)(?:\[[^\]]*\])?==(?P<version>[^\s;\\]+)", re.MULTILINE)


def missing(lock: str, document: str) -> list[str]:
    """Return what the document lacks: pins of the lock file, or the hashes of one."""
    named = {(part["name"].lower(), part["version"]): json.dumps(part) for part in json.loads(document)["components"]}
    pins = [(pin["name"].lower(), pin["version"]) for pin in _PIN.finditer(lock)]
    return [f"{name}=={version}" for name, version in pins if "SHA-256" not in named.get((name, version), "")]


def main(lock: Path, document: Path) -> int:
    """Print what is missing; 0 if nothing is."""
    lacks = missing(lock.read_text(), document.read_text())
    for pin in lacks:
        print(f"{document}: {pin} or its hashes are missing", file=sys.stderr)
    if not lacks:
        print(f"{document}")
    return 1 if lacks else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
