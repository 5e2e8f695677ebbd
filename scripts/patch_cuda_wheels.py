"""Patches for what CUDA wheels break beside a CPU build of torch: torchvision, torchaudio and torchcodec.

PyPI's builds of the three are for CUDA. Beside a CPU torch their compiled parts do not load, and transformers and vLLM,
which import them where they are installed, end with the error of that import. captiond decodes with PyAV and needs no
audio, so torchaudio and torchcodec are uninstalled where they do not import: both libraries do without them.

torchvision is needed, but only its pure-torch transforms: declaring the two missing operator schemas before its first
import is enough. vLLM spawns processes that import transformers before any hook of ours could run, so the declaration
hangs on the interpreter itself: a ``.pth`` file that installs a one-shot import hook. Where all three import, nothing
is changed.
"""

import subprocess
import sys
import sysconfig
from pathlib import Path

HOOK = '''\
"""Declares torchvision's two operator schemas just before its first import (see scripts/patch_cuda_wheels.py)."""

import sys
from importlib.abc import MetaPathFinder


class _DeclareSchemas(MetaPathFinder):
    def find_spec(self, fullname, path=None, target=None):
        if fullname == "torchvision":
            sys.meta_path.remove(self)
            from torch.library import Library

            self.library = Library("torchvision", "DEF")
            self.library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            self.library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            sys.torchvision_schemas = self  # the declaration lives as long as its library object
        return None


sys.meta_path.insert(0, _DeclareSchemas())
'''


def imports(package: str) -> bool:
    """Say whether a fresh interpreter can import a package."""
    return subprocess.run([sys.executable, "-c", f"import {package}"], capture_output=True, check=False).returncode == 0


def is_installed(package: str) -> bool:
    """Say whether a package is there, importable or not."""
    return (Path(sysconfig.get_path("purelib")) / package).is_dir()


def main() -> int:
    """Patch what does not import; 0 when everything that is left does."""
    for package in ("torchaudio", "torchcodec"):
        if is_installed(package) and not imports(package):
            print(f"{package} is a CUDA build beside a CPU torch: it is uninstalled, nothing here needs it.")
            subprocess.run([sys.executable, "-m", "pip", "uninstall", "-qq", "-y", package], check=True)
    if imports("torchvision"):
        return 0
    site = Path(sysconfig.get_path("purelib"))
    (site / "_torchvision_schemas.py").write_text(HOOK)
    (site / "_torchvision_schemas.pth").write_text("import _torchvision_schemas\n")
    if imports("torchvision"):
        print("torchvision is a CUDA build beside a CPU torch: its operator schemas are declared at start-up.")
        return 0
    print("torchvision does not import even with its operator schemas declared.", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
