"""Importing this makes `tests` importable, whose support modules programs here share, wherever they are started."""

import sys

from proxies import REPOSITORY

sys.path.append(str(REPOSITORY))
