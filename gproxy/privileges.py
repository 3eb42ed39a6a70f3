"""Whom our processes run as: accounts by name or id.

A ValueError says what is wrong, in words for an operator, as those of config/scalars.py do.
"""

from __future__ import annotations

import grp
import pwd
import re

_ID = re.compile(r"0|[1-9][0-9]{0,9}")
_MAX_ID = 2**32 - 2  # the one above it means "leave it as it is" to the kernel


def find_user(text: str) -> tuple[str, int, int | None]:
    """Name, uid and primary group of a user by name or id.

    An id needs no entry in the user database, as in containers; its group is None then.
    """
    try:
        uid = _number(text)
        entry = pwd.getpwnam(text) if uid is None else pwd.getpwuid(uid)
    except KeyError:
        if uid is None:
            raise ValueError(f"there is no user {text[:60]!a} on this system") from None
        return text, uid, None
    return entry.pw_name, entry.pw_uid, entry.pw_gid


def find_group(text: str) -> int:
    """The gid of a group by name or id; an id needs no entry in the group database."""
    gid = _number(text)
    if gid is not None:
        return gid
    try:
        return grp.getgrnam(text).gr_gid
    except KeyError:
        raise ValueError(f"there is no group {text[:60]!a} on this system") from None


def _number(text: str) -> int | None:
    """None for what is a name."""
    if not text:
        raise ValueError("must be a name or an id")
    if not text.isdecimal():
        return None
    if not _ID.fullmatch(text) or int(text) > _MAX_ID:
        raise ValueError(f"must be a name, or an id from 0 to {_MAX_ID}, not {text[:60]!a}")
    return int(text)
