"""A bucket in moto's S3 server, filled before it serves: through S3 itself 100,000 objects would take many minutes.

    python testing/bucket.py PORT NAME COUNT FILE

serves the bucket NAME with COUNT copies of FILE, ``clips/0/000000.mp4`` and so on, and one beside them, until it is
ended. It is run by the Python that has moto, which need not be the one of the tests, so nothing else is imported.
"""

import importlib
import sys
from pathlib import Path

_ACCOUNT = "123456789012"  # moto's own, which any credentials mean
_FOLDERS = 10


def object_names(count: int) -> list[str]:
    """Return the names of so many objects, spread over folders."""
    return [f"clips/{number % _FOLDERS}/{number:06d}.mp4" for number in range(count)]


def main(port: str, name: str, count: str, file: str) -> None:
    """Fill the bucket and serve it."""
    store = importlib.import_module("moto.s3.models").s3_backends[_ACCOUNT]["aws"]
    store.create_bucket(name, "us-east-1")
    content = Path(file).read_bytes()
    for key in (*object_names(int(count)), "other.mp4"):
        store.put_object(name, key, content)
    importlib.import_module("moto.server").main(["-p", port])


if __name__ == "__main__":
    main(*sys.argv[1:])
