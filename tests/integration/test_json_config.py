"""A JSON file with camelCase keys is a configuration too."""

import json

from tests.support.ends import read_to_end
from tests.support.origin import Origin
from tests.support.proxy import Gproxy


def test_it_serves(tmp_path):
    with Origin("once", "b1") as origin:
        config = {
            "loadBalancer": {"connectionPoolSize": 4, "backendConnectTimeout": "2s", "drainTimeout": 0},
            "listeners": [{"name": "web", "bind": "127.0.0.1:0", "upstream": "app", "maxConnections": 50}],
            "upstreams": {
                "app": {
                    "halfCloseTimeout": 3,
                    "healthCheck": {"type": "tcp", "fastInterval": "200ms"},
                    "passiveHealth": {"connectFailures": 2, "ejectFor": 1},
                    "backends": [{"name": "b1", "address": origin.address, "maxConnections": 5}],
                }
            },
        }
        with Gproxy(tmp_path, json.dumps(config)) as proxy, proxy.connect("web") as client:
            assert read_to_end(client) == b"b1"
