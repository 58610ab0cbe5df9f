"""The clusters to test, from hack/localkube itself."""

from hack.localkube.pytest_plugin import control_plane, control_plane_factory, helm, node_cluster, node_was_up

__all__ = ["control_plane", "control_plane_factory", "helm", "node_cluster", "node_was_up"]
