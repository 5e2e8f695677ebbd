"""A folder that appears whole or not at all: it is filled under another name and renamed into place."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """Yield an empty folder beside ``target`` that takes its place when the block ends without an error.

    The block removes a ``target`` that holds anything, once what replaces it is complete.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        yield folder
        folder.chmod(0o755)
        folder.replace(target)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
