"""Private address ranges that clash with nothing the host routes."""

import ipaddress
import json
from collections.abc import Iterable
from dataclasses import dataclass

from .errors import LocalKubeError
from .shell import run


@dataclass(frozen=True)
class Ranges:
    """The node cluster's addresses: pods (/16), their bridge's own address in it, and Services (/16)."""

    pods: str
    bridge: str
    services: str
    dns: str


def choose() -> Ranges:
    """Return ranges from 10.200.0.0/13 on that overlap with no route and no address of the host.

    Raises LocalKubeError if the host routes all of them (a VPN that takes 10.0.0.0/8, for example).
    """
    taken = list(_host_networks())
    for second in range(200, 255, 2):
        pods = ipaddress.IPv4Network(f"10.{second}.0.0/16")
        services = ipaddress.IPv4Network(f"10.{second + 1}.0.0/16")
        if not any(network.overlaps(pods) or network.overlaps(services) for network in taken):
            return Ranges(str(pods), str(pods[1]), str(services), str(services[10]))
    raise LocalKubeError(
        f"every range from 10.200.0.0/16 to 10.255.0.0/16 overlaps with one of this host's routes; "
        f"take the one down that is in the way: {', '.join(map(str, taken))}"
    )


def _host_networks() -> Iterable[ipaddress.IPv4Network]:
    for route in json.loads(run(["ip", "-json", "-4", "route", "show", "table", "all"]) or "[]"):
        if route["dst"] != "default":
            yield ipaddress.IPv4Network(route["dst"], strict=False)
