"""Whom our processes run as: accounts by name or id, and becoming one for good.

find_user("www-data") -> name, uid, primary group      find_group("adm") -> gid
drop(Identity(uid, gid, name))                         root -> that user, with no way back
"""

from __future__ import annotations

import grp
import os
import pwd
import re

from gproxy.core.settings import Identity
from gproxy.errors import PrivilegeError

__all__ = ["Identity", "drop", "find_group", "find_user"]

_ID = re.compile(r"0|[1-9][0-9]{0,9}")
_MAX_ID = 2**32 - 2  # the one above it means "leave it as it is" to the kernel


def find_user(text: str) -> tuple[str, int, int | None]:
    """Name, uid and primary group of a user by name or id.

    An id needs no entry in the user database, as in containers; its group is None then.
    A ValueError says what is wrong, in words for an operator.
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
    """The gid of a group by name or id, which needs no entry in the group database; ValueError as above."""
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


def drop(identity: Identity) -> None:
    """Become that user for good; who is it already stays as it is.

    PrivilegeError says why it can't be; the process may be half changed then, and must end.
    The kernel takes a process that changed its user for one with secrets: its /proc/self/fd,
    and so /dev/stdout, belong to root from here on. Open what is needed of them before.
    """
    if _runs_as(identity) and identity.uid != 0:
        return
    try:
        # The user comes last: without root, groups can't be changed.
        os.initgroups(identity.name, identity.gid)
        os.setresgid(identity.gid, identity.gid, identity.gid)
        os.setresuid(identity.uid, identity.uid, identity.uid)
    except OSError as error:
        raise PrivilegeError(f"cannot run as {_shown(identity)}: {error.strerror}") from error
    if not _runs_as(identity):
        raise PrivilegeError(f"cannot run as {_shown(identity)}: the kernel left us other ids")
    if identity.uid != 0 and _can_become_root():
        raise PrivilegeError(f"cannot run as {_shown(identity)}: it could become root again")


def _runs_as(identity: Identity) -> bool:
    return os.getresuid() == (identity.uid,) * 3 and os.getresgid() == (identity.gid,) * 3


def _can_become_root() -> bool:
    """By trying it, for the ways are many: capabilities kept, secure bits, user namespaces."""
    try:
        os.setuid(0)
    except OSError:
        return False
    return True


def _shown(identity: Identity) -> str:
    return f"user {identity.name} (uid {identity.uid}, gid {identity.gid})"
