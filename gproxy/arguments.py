"""The command line's parser."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import SupportsWrite


class ArgumentParser(argparse.ArgumentParser):
    """Says when ``--help`` or ``--version`` could not be written, which argparse hides where output has no buffer.

    A full disk then ends the program as any other does, instead of with status 0 and nothing written.
    """

    def _print_message(self, message: str, file: SupportsWrite[str] | None = None) -> None:
        if file is sys.stdout:
            print(message, file=file, end="")
        else:
            super()._print_message(message, file)
