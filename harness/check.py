"""Does a method keep the contract? Two seconds a method, before hours of a grid.

    python -m harness.check method=simclr
    python -m harness.check method=all
    python -m harness.check method=my_method plugins=my_method.py

Checked: the class and its options, the loss (finite, scalar), gradients (reach the whole encoder,
touch nothing frozen), labels (shuffling them changes nothing unless the method asks for them), that
it learns, that it does not collapse, that the same seed gives the same bytes, and that a run which
is stopped and resumed ends like one that is not. Exit code 1 if a check fails.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from .arguments import parse, wants_help
from .errors import UserError, door, unknown

DEFAULTS = {"method": "", "plugins": ""}


def main(arguments: list[str]) -> int:
    """Check one method, or all; prints a line per check."""
    if wants_help(arguments):
        print(__doc__)
        return 0
    options = parse(arguments, DEFAULTS, "harness.check")
    plugins = [Path(p).expanduser() for p in options["plugins"].split(",") if p]
    return check(options["method"], plugins)


def check(method: str, plugins: Sequence[Path]) -> int:
    """Run the checks of `method` ("all" for every one) and print them; the exit code."""
    from methods.registry import discover

    try:
        specs = discover(plugins)
    except ValueError as error:
        raise UserError(str(error)) from None
    if not method:
        raise UserError(f"which method? Give method=NAME or method=all; {', '.join(specs)}")
    if method != "all" and method not in specs:
        raise unknown("method", method, specs, "harness.check")
    from .conformance import results  # imports torch

    failed = 0
    for name in specs if method == "all" else [method]:
        started = time.monotonic()
        problems = 0
        for result in results(specs[name], specs, plugins):
            problems += not result.passed
            mark = "ok  " if result.passed else "FAIL"
            print(f"  {mark} {result.check}{': ' + result.detail if result.detail else ''}")
        failed += bool(problems)
        verdict = "keeps the contract" if not problems else f"fails {problems} checks"
        print(f"{name} ({specs[name].file.name}:{specs[name].line}) {verdict}, "
              f"{time.monotonic() - started:.1f} s")
    return 1 if failed else 0


run = door(main)

if __name__ == "__main__":
    run()
