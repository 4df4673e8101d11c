from __future__ import annotations

import pytest

from harness.errors import Failure, Problems, UserError, _exit_code, unknown


def test_unknown_name_suggests_the_nearest_and_lists_all() -> None:
    text = str(unknown("method", "simcrl", ["byol", "simclr"], "grid.methods"))
    assert text == ("grid.methods: unknown method 'simcrl'. Did you mean 'simclr'? "
                    "Available: byol, simclr")


@pytest.mark.parametrize(("error", "code"), [
    (UserError("wrong"), 2), (Problems(["one", "two"]), 2), (Failure("broken"), 1),
    (KeyboardInterrupt(), 130)])
def test_exit_codes(error: BaseException, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    def main(arguments: list[str]) -> int:
        raise error

    assert _exit_code(main) == code
    said = capsys.readouterr().err.strip().splitlines()
    assert said == ["error: one", "error: two"] if isinstance(error, Problems) else len(said) == 1


def test_a_bug_keeps_its_traceback() -> None:
    def main(arguments: list[str]) -> int:
        raise RuntimeError("a bug, not a user's mistake")

    with pytest.raises(RuntimeError):
        _exit_code(main)
