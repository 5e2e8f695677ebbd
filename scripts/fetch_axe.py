"""Bring axe-core, which finds faults of accessibility, from npm into build/axe: the tests of the page use it."""

import base64
import hashlib
import io
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

VERSION = "4.14.1"
SHA512 = "FHfa+lmNjQZfJz1q8wKqIDwC6DExcHt/pkjNQb09a3NPjCKg2rhu5qb2S4r76ASyFNNtuFooJpZe37OgudVGtQ=="  # npm's integrity
TARGET = Path(__file__).resolve().parent.parent / "build" / "axe" / "axe.min.js"


def main() -> int:
    """Download the package, hold it against its hash and take the one file out of it; 0 when that is there."""
    if TARGET.is_file():
        return 0
    if shutil.which("npm") is None:
        print("axe-core comes from npm, which is not here.", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as folder:
        command = ["npm", "pack", "--silent", "--ignore-scripts", f"axe-core@{VERSION}"]
        if subprocess.run(command, cwd=folder, check=False, stdout=subprocess.DEVNULL).returncode != 0:
            print("axe-core can't be downloaded.", file=sys.stderr)
            return 1
        (packed,) = Path(folder).glob("*.tgz")
        data = packed.read_bytes()
    if base64.b64encode(hashlib.sha512(data).digest()).decode() != SHA512:
        print("What npm gave is not the axe-core that is pinned.", file=sys.stderr)
        return 1
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        member = archive.extractfile("package/axe.min.js")
        assert member is not None
        TARGET.parent.mkdir(parents=True, exist_ok=True)
        TARGET.write_bytes(member.read())
    return 0


if __name__ == "__main__":
    sys.exit(main())
