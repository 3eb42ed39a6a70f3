"""What each command of `gproxy ctl` asks the API, and what it says then."""

from __future__ import annotations

import json
from argparse import Namespace
from typing import Any, NamedTuple

from gproxy.ctl import tables
from gproxy.ctl.client import Client, Refused, backend_path
from gproxy.ctl.waits import Wait


class Said(NamedTuple):
    """`document` is for scripts, `text` for people."""

    document: Any
    text: str
    status: int = 0


def status(client: Client, options: Namespace) -> Said:
    if options.backend is not None:
        found = _backend(client, options)
        return Said(found, tables.backends([(options.backend.upstream, found)]))
    state = client.get("/v1/state")
    return Said(state, tables.overview(state))


def drain(client: Client, options: Namespace) -> Said:
    return _administrative(client, options, "drain")


def ready(client: Client, options: Namespace) -> Said:
    return _administrative(client, options, "ready")


def maint(client: Client, options: Namespace) -> Said:
    return _administrative(client, options, "maint")


def weight(client: Client, options: Namespace) -> Said:
    found = client.put(_path(options), {"weight": options.weight})
    return Said(found, f"{options.backend}: weight {found['weight']}, configured {found['configured_weight']}")


def eject(client: Client, options: Namespace) -> Said:
    return _tell(client, options, "eject", {"seconds": options.seconds})


def readmit(client: Client, options: Namespace) -> Said:
    return _tell(client, options, "readmit")


def empty_pool(client: Client, options: Namespace) -> Said:
    return _tell(client, options, "empty-pool")


def log(client: Client, options: Namespace) -> Said:
    found = client.get("/v1/log") if options.level is None else client.put("/v1/log", {"level": options.level})
    return Said(found, found["level"])


def reload(client: Client, options: Namespace) -> Said:
    before = client.get("/v1/state") if options.wait else {}
    found = client.post("/v1/reload")
    if not options.wait:
        return Said(found, found["done"])
    state = Wait(client, options.timeout).until_reloaded(before)
    text = f"the new configuration is in effect, as generation {state['generation']}"
    return Said({"generation": state["generation"], "reload": state["reload"]}, text)


def decisions(client: Client, options: Namespace) -> Said:
    found = client.get("/v1/decisions", last=options.last)
    return Said(found, tables.decisions(found))


def processes(client: Client, _options: Namespace) -> Said:
    found = client.get("/v1/processes")
    return Said(found, tables.processes(found))


def health(client: Client, options: Namespace) -> Said:
    try:
        found = client.get("/v1/health", **({"upstream": options.upstream} if options.upstream else {}))
    except Refused as refused:
        if refused.status != 503 or "status" not in refused.document:
            raise
        return Said(refused.document, refused.document["status"], 1)
    return Said(found, found["status"])


def metrics(client: Client, _options: Namespace) -> Said:
    text = client.text("/metrics")
    return Said(text, text.rstrip())


def openapi(client: Client, _options: Namespace) -> Said:
    found = client.get("/v1/openapi.json")
    return Said(found, json.dumps(found, indent=2))


def _path(options: Namespace) -> str:
    return backend_path(options.backend.upstream, options.backend.backend)


def _backend(client: Client, options: Namespace) -> Any:
    return client.get(_path(options))


def _administrative(client: Client, options: Namespace, state: str) -> Said:
    found = client.put(_path(options), {"administrative": state})
    if getattr(options, "wait", False):
        found = Wait(client, options.timeout).until_idle(options.backend, _path(options), state)
    return Said(found, f"{options.backend}: {tables.backend_line(found)}")


def _tell(client: Client, options: Namespace, what: str, body: Any = None) -> Said:
    found = client.post(f"{_path(options)}/{what}", body)
    return Said(found, f"{options.backend}: {found['done']}")
