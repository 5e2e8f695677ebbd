"""Run every measurement that fits a short session, one after the other."""

import importlib
import pkgutil
import sys

import bench


def main() -> int:
    """Run each script of this folder as it is run alone; 0 when each said so."""
    worst = 0
    for module in sorted(
        info.name for info in pkgutil.iter_modules(bench.__path__) if not (info.ispkg or info.name == "__main__")
    ):
        print(f"== bench/{module}.py", flush=True)
        sys.argv = [f"bench.{module}"]
        worst = max(worst, int(importlib.import_module(f"bench.{module}").main()))
    return worst


if __name__ == "__main__":
    sys.exit(main())
