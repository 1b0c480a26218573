"""Compare what schedules in a world: `--env` says in which.

    python experiments/run.py --env llm_router
    python experiments/run.py --env job_shop

Installed, the same is `makespan run`. Each world has its own options, which `--env WORLD --help`
explains. All of them print a table and write `runs/<name>/` (`makespan.experiments.run_folder`).
"""

import argparse
import sys
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path

from makespan.envs.core.registry import load

WORLDS: Mapping[str, str] = {
    "llm_router": "makespan.experiments.run_router:main",
    "job_shop": "makespan.experiments.jobshop.run:main",
}
"""Name -> "module:function" that takes the arguments and returns the exit status."""

DEFAULT = "llm_router"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status: 0, 2 for bad input, 130 when interrupted."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        command = load("world", WORLDS, chosen_world(arguments))
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return command(arguments)


def chosen_world(argv: Sequence[str]) -> str:
    """What `--env` says, or the file of `--config`, or else `DEFAULT`.

    A config file that cannot be read is left for the world to complain of.
    """
    peek = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for option in ("--env", "--config"):
        peek.add_argument(option, nargs="?")
    given = peek.parse_known_args(argv)[0]
    if given.env or not given.config:
        return given.env or DEFAULT
    try:
        settings = tomllib.loads(Path(given.config).read_text(encoding="utf-8"))
    except (ValueError, OSError):
        return DEFAULT
    return str(settings.get("env", DEFAULT))


if __name__ == "__main__":
    sys.exit(main())
