"""Where the API server is and how to prove who we are, as the kubernetes package's loaders find it.

In a pod that is the service account; outside, the kubeconfig that KUBECONFIG or the home directory names, with any of
its contexts.
"""

from __future__ import annotations

import asyncio
import base64
import os
import ssl
import time
from pathlib import Path
from typing import Any

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
REFRESH_SECONDS = 30.0
"""How long an Authorization header is used before the loader is asked again: mounted tokens rotate."""


class Connection:
    """Address, TLS and credentials of one API server."""

    def __init__(self, configuration: Any) -> None:
        self.configuration = configuration
        self.host: str = configuration.host.rstrip("/")
        self.proxy: str | None = configuration.proxy or None
        self.server_hostname: str | None = configuration.tls_server_name or None
        self.ssl = _tls(configuration)
        self._header: str | None = None
        self._read = -REFRESH_SECONDS

    async def authorization(self, renew: bool = False) -> str | None:
        """The Authorization header now, None when a client certificate says who we are.

        `renew` asks the loader even if the last answer is fresh (after a 401). The loader may read a file or start an
        exec plugin, so it runs in a thread.
        """
        if renew or time.monotonic() - self._read >= REFRESH_SECONDS:
            self._header = await asyncio.to_thread(self._load_header)
            self._read = time.monotonic()
        return self._header

    def _load_header(self) -> str | None:
        key = self.configuration.get_api_key_with_prefix("BearerToken", alias="authorization")
        if key:
            scheme, _, token = str(key).partition(" ")
            return f"Bearer {token}" if scheme.lower() == "bearer" and token else str(key)
        if self.configuration.username and self.configuration.password:
            pair = f"{self.configuration.username}:{self.configuration.password}"
            return "Basic " + base64.b64encode(pair.encode()).decode()
        return None


def connect(context: str | None = None) -> Connection:
    """Find the API server. Raises ValueError with what was looked for when there is none.

    A KUBECONFIG in the environment or a context that is asked for wins over the service account, so that a
    developer in a pod reaches the cluster that was named.
    """
    from kubernetes import client, config

    loaders: Any = config  # the package says that it is typed, but its loaders are not
    configuration = client.Configuration()
    in_pod = "KUBERNETES_SERVICE_HOST" in os.environ and (SERVICE_ACCOUNT / "token").exists()
    try:
        if in_pod and context is None and not os.environ.get("KUBECONFIG"):
            loaders.load_incluster_config(client_configuration=configuration)
        else:
            # Named here, since the package reads KUBECONFIG once, when it is imported.
            loaders.load_kube_config(
                config_file=os.environ.get("KUBECONFIG"), context=context, client_configuration=configuration
            )
    except config.ConfigException as error:
        wanted = f"context {context!r}" if context else "the current context"
        where = os.environ.get("KUBECONFIG") or "~/.kube/config"
        raise ValueError(
            f"No API server found: {wanted} of the kubeconfig {where} cannot be used ({error}). "
            "Set KUBECONFIG to a kubeconfig file, or run in a pod with a service account."
        ) from error
    return Connection(configuration)


def own_namespace() -> str | None:
    """Namespace of the pod that this process runs in, None outside a cluster."""
    try:
        return (SERVICE_ACCOUNT / "namespace").read_text().strip() or None
    except OSError:
        return None


def _tls(configuration: Any) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=configuration.ssl_ca_cert or None)
    if configuration.cert_file:
        context.load_cert_chain(configuration.cert_file, configuration.key_file)
    if not configuration.verify_ssl:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
