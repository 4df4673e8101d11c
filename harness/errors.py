"""Errors that a person can act on, and the wrapper that turns them into exit codes.

Exit codes of every door: 0 all done, 1 something failed while running, 2 the request was wrong,
130 interrupted.
"""

from __future__ import annotations

import errno
import functools
import os
import sys
from collections.abc import Callable, Iterable

from methods import options as options_module

# What is wrong with a place, not with the program: no space, over quota, read-only, no permission.
PLACE_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)


class UserError(ValueError):
    """The request cannot be met as written; the message is one line and names the remedy."""


class Failure(RuntimeError):
    """The request was fine, but the work could not be done; the message names the remedy."""


class Problems(UserError):
    """Everything that is wrong with a configuration, found before any work starts."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


def problems_of(error: Exception) -> list[str]:
    """Each problem that an error names, as a line."""
    return list(getattr(error, "problems", None) or str(error).splitlines()
                or [type(error).__name__])


def unknown(kind: str, name: str, options: Iterable[str], where: str = "") -> UserError:
    """The error for a name that does not exist, with the nearest and all valid names."""
    place = f"{where}: " if where else ""
    return UserError(place + options_module.unknown(kind, name, options))


def door(main: Callable[[list[str]], int]) -> Callable[[], None]:
    """Wrap a command's `main(argv) -> exit code` so that a user's mistake shows no traceback."""

    @functools.wraps(main)
    def run() -> None:
        sys.exit(_exit_code(main))

    return run


def _exit_code(main: Callable[[list[str]], int]) -> int:
    try:
        code = main(sys.argv[1:])
        sys.stdout.flush()
        return code
    except UserError as error:
        return _say(error, 2)
    except Failure as error:
        return _say(error, 1)
    except KeyboardInterrupt:
        print("interrupted; the same command continues where it stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # the reader (head, less) went away: silence the flush at exit as well
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if error.errno not in PLACE_ERRORS:
            raise
        return _say(Failure(place(error)), 1)


def place(error: OSError) -> str:
    """One line for an error of the file system: what, where, the remedy."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return (f"{error.strerror}: {error.filename or 'the results folder'}; "
            f"{'free some space' if full else 'make it writable'}, then run the same command "
            "again: what is done is kept")


def _say(error: Exception, code: int) -> int:
    for line in problems_of(error):
        print(f"error: {line}", file=sys.stderr)
    return code
