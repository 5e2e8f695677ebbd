"""Run every measurement that fits a short session, one after the other."""

import importlib
import pkgutil
import sys

import bench


def main() -> int:
    """Run each script of this folder as it is run alone; 0 when each said so."""
    worst = 0
    found = [info.name for info in pkgutil.walk_packages(bench.__path__, "bench.") if not info.ispkg]
    for module in sorted(name for name in found if name != "bench.__main__" and not name.startswith("bench.harness.")):
        print(f"== {module.replace('.', '/')}.py", flush=True)
        sys.argv = [module]
        worst = max(worst, int(importlib.import_module(module).main()))
    return worst


if __name__ == "__main__":
    sys.exit(main())
