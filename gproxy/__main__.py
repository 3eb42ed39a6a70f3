"""``python -m gproxy`` is the ``gproxy`` command."""

import sys

from gproxy.cli import main

if __name__ == "__main__":
    sys.exit(main())
