"""How an operator process runs: its command line and its environment (DISTILLRUN_…)."""

from __future__ import annotations

import argparse
import ipaddress
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from pydantic import ValidationError

from distillrun import __version__
from distillrun.api.v1alpha1 import Mirror
from distillrun.cli import estimate
from distillrun.cluster.connection import own_namespace
from distillrun.plan.model import STAGES, Network, Settings

NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
ABOUT = """\
`python -m distillrun operator` runs the operator, `python -m distillrun crd` prints the resource's definition,
`python -m distillrun estimate run.yaml` says without a cluster whether a training fits, how long it takes and its cost.

Outside a cluster:  KUBECONFIG=… python -m distillrun operator --text-logs
"""


@dataclass(frozen=True)
class Options:
    """How this process runs; `settings` is what the administrator decides about runs."""

    settings: Settings
    namespaces: tuple[str, ...] = ()
    """Empty: the whole cluster."""
    context: str | None = None
    lease_namespace: str = "default"
    lease_name: str = "distillrun-operator"
    host: str | None = None
    port: int = 8080
    workers: int = 16
    relist_seconds: float = 300.0
    relist_grace: float = 30.0
    log_level: str = "INFO"
    text_logs: bool = False


def options(arguments: argparse.Namespace, env: Mapping[str, str]) -> Options:
    """Options from arguments and environment (DISTILLRUN_…). Raises ValueError naming the variable that is wrong."""
    images: dict[str, str] = {}
    for stage in STAGES:
        program = "curate" if stage == "resolve" else stage  # one image reads inputs, in both stages
        images[stage] = env.get(f"DISTILLRUN_IMAGE_{program.upper()}") or f"distillrun/{program}:{__version__}"
    try:
        price = Decimal(env.get("DISTILLRUN_GPU_HOUR_PRICE") or "0")
    except ArithmeticError:
        raise ValueError(
            f"DISTILLRUN_GPU_HOUR_PRICE is {env['DISTILLRUN_GPU_HOUR_PRICE']!r}: give a decimal number such as 2.96."
        ) from None
    lease_namespace = env.get("DISTILLRUN_LEASE_NAMESPACE") or own_namespace() or "default"
    prices = _price_book(env.get("DISTILLRUN_PRICE_BOOK") or "{}")
    watched = arguments.namespaces if arguments.namespaces is not None else env.get("DISTILLRUN_WATCH_NAMESPACES", "")
    return Options(
        settings=Settings(
            images=images,
            gpu_hour_price=str(price),
            price_book=prices,
            currency=env.get("DISTILLRUN_CURRENCY") or "USD",
            gpu_resource=env.get("DISTILLRUN_GPU_RESOURCE") or "nvidia.com/gpu",
            image_pull_policy=env.get("DISTILLRUN_IMAGE_PULL_POLICY") or "IfNotPresent",
            network=_network(env, lease_namespace),
            mirror=_mirror(env.get("DISTILLRUN_MIRROR") or ""),
        ),
        namespaces=tuple(sorted({name.strip() for name in watched.split(",") if name.strip()})),
        context=arguments.context or env.get("DISTILLRUN_KUBE_CONTEXT") or None,
        lease_namespace=lease_namespace,
        lease_name=env.get("DISTILLRUN_LEASE_NAME") or "distillrun-operator",
        host=arguments.host,
        port=arguments.port,
        workers=arguments.workers,
        relist_seconds=arguments.relist_seconds,
        relist_grace=arguments.relist_grace,
        log_level=env.get("DISTILLRUN_LOG_LEVEL") or "INFO",
        text_logs=arguments.text_logs,
    )


def _mirror(uri: str) -> str:
    try:
        return Mirror(uri=uri).uri if uri else ""
    except ValidationError:
        raise ValueError(
            f"DISTILLRUN_MIRROR is {uri!r}: give the URL of a server with the hub's API, or a folder at s3:// or file:///"
            " as `hf download --cache-dir` makes it."
        ) from None


def _network(env: Mapping[str, str], operator_namespace: str) -> Network | None:
    wanted = (env.get("DISTILLRUN_NETWORK_POLICIES") or "true").lower()
    if wanted not in ("true", "false"):
        raise ValueError(f"DISTILLRUN_NETWORK_POLICIES is {wanted!r}: give true or false.")
    if wanted == "false":
        return None
    defaults = Network()
    return Network(
        operator_namespace,
        dns=_peers(env, "DISTILLRUN_DNS", defaults.dns),
        metrics_from=_peers(env, "DISTILLRUN_METRICS_FROM", defaults.metrics_from),
        serve_from=_peers(env, "DISTILLRUN_SERVE_FROM", defaults.serve_from),
    )


def _peers(env: Mapping[str, str], name: str, default: tuple[str, ...]) -> tuple[str, ...]:
    """Namespaces and CIDR blocks of a variable; the default when it is not set."""
    if name not in env:
        return default
    peers = tuple(dict.fromkeys(word.strip() for word in env[name].split(",") if word.strip()))
    for each in peers:
        try:
            good = bool(ipaddress.ip_network(each) if "/" in each else NAMESPACE.fullmatch(each))
        except ValueError:
            good = False
        if not good:
            raise ValueError(f"{name} has {each!r}: give names of namespaces and blocks such as 10.0.0.0/8.")
    return peers


def _price_book(text: str) -> dict[str, str]:
    """GPU product → price of a GPU hour. Raises ValueError naming the entry that is wrong."""
    try:
        book = json.loads(text)
        if not isinstance(book, dict):
            raise ValueError("not an object")
    except ValueError as error:
        raise ValueError(
            f'DISTILLRUN_PRICE_BOOK is not a JSON object such as {{"NVIDIA-H100-80GB-HBM3": "2.96"}}: {error}.'
        ) from None
    for product, price in book.items():
        try:
            good = Decimal(str(price)) >= 0
        except ArithmeticError:
            good = False
        if not good:
            raise ValueError(
                f"DISTILLRUN_PRICE_BOOK gives {price!r} for {product}: give a decimal number such as 2.96."
            )
    return {str(product): str(price) for product, price in book.items()}


def arguments(argv: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m distillrun", description=ABOUT, formatter_class=argparse.RawTextHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("operator", aliases=["run"], help="run the operator")
    run.add_argument("--context", help="context of the kubeconfig (default: the current one)")
    run.add_argument("--namespaces", help="comma-separated; default: DISTILLRUN_WATCH_NAMESPACES, or the whole cluster")
    run.add_argument("--host", help="address to listen on (default: all)")
    run.add_argument("--port", type=int, default=8080, help="port of /healthz, /readyz and /metrics (default 8080)")
    run.add_argument("--workers", type=int, default=16, help="passes at the same time (default 16)")
    run.add_argument("--relist-seconds", type=float, default=300.0, help="between checks of the cache (default 300)")
    run.add_argument("--relist-grace", type=float, default=30.0, help="seconds a watch may lag (default 30)")
    run.add_argument("--text-logs", action="store_true", help="logs for a terminal instead of JSON lines")
    commands.add_parser("crd", help="print the CustomResourceDefinition as YAML")
    estimate.add_arguments(
        commands.add_parser("estimate", help="feasibility, time and cost of a run, without a cluster")
    )
    return parser.parse_args(argv)
