"""Let torchvision's CUDA wheel import beside a CPU build of torch.

PyPI's torchvision is built for CUDA. Beside a CPU torch its compiled operators do not load, and the import ends with
"operator torchvision::nms does not exist", although the pure-torch transforms that vLLM and transformers use need no
operator. Declaring the two missing schemas before the first import is enough. vLLM spawns processes that import
transformers before any hook of ours could run, so the declaration hangs on the interpreter itself: a ``.pth`` file that
installs a one-shot import hook. Where the import works, nothing is written.
"""

import subprocess
import sys
import sysconfig
from pathlib import Path

HOOK = '''\
"""Declares torchvision's two operator schemas just before its first import (see scripts/mend_torchvision.py)."""

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


def torchvision_imports() -> bool:
    """Say whether a fresh interpreter can import torchvision."""
    return (
        subprocess.run([sys.executable, "-c", "import torchvision"], capture_output=True, check=False).returncode == 0
    )


def main() -> int:
    """Write the hook when the import fails without it; 0 when torchvision imports at the end."""
    if torchvision_imports():
        return 0
    site = Path(sysconfig.get_path("purelib"))
    (site / "_torchvision_schemas.py").write_text(HOOK)
    (site / "_torchvision_schemas.pth").write_text("import _torchvision_schemas\n")
    if torchvision_imports():
        print("torchvision is a CUDA build beside a CPU torch: its operator schemas are declared at start-up.")
        return 0
    print("torchvision does not import even with its operator schemas declared.", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
