"""The law of the relay, for any order of events: what arrives is what was sent, and ends as it ended.

Two peers send, pause, finish and reset in an order that Hypothesis chooses, with buffers of
its choice. Then, in each direction:

- the bytes that arrive are a prefix of those that were sent;
- after a FIN they are all of them, and a FIN is what the reader sees, unless one of the peers
  has reset: that ends both directions;
- after a reset by the sender they include whatever the relay had read, and RST is what the
  reader sees. (The sender's own kernel throws away what it had not sent yet.)
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

import gevent
from gevent import Greenlet
from gevent.event import Event
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from gproxy.net.connection import unacknowledged
from tests.support.loopback import End, Peer, descriptors
from tests.support.poll import eventually
from tests.support.relayed import Relayed
