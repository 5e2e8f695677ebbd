"""vLLM's engine without a frontend, as on a second host: the arguments of ``vllm serve --headless``.

That command itself asks for the metadata of a package ``vllm``, which the CPU build does not have.
"""

import sys


def main() -> None:
    """Run until the process is ended."""
    from vllm.entrypoints.cli.serve import run_headless
    from vllm.entrypoints.launchers.cli_args import make_arg_parser
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    asked = make_arg_parser(FlexibleArgumentParser()).parse_args(["--headless", *sys.argv[1:]])
    asked.api_server_count = 0
    run_headless(asked)


if __name__ == "__main__":
    main()
