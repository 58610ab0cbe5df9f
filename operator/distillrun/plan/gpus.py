"""GPUs by the node label `nvidia.com/gpu.product`: memory as CUDA reports it, and the rates that time depends on.

Sources: the makers' data sheets (dense bf16 without sparsity, memory bandwidth, link rates in one direction) and, for
memory, what torch.cuda reports in public logs, which is less than the name says.
"""

from __future__ import annotations

from dataclasses import dataclass

GIB = 1 << 30


@dataclass(frozen=True)
class Gpu:
    """One GPU of a kind."""

    product: str
    """How the label begins."""
    memory: int
    """Bytes that CUDA reports in all."""
    flops: float
    """Dense bf16 operations a second by the data sheet."""
    link: float
    """Bytes a second to the other GPUs of the host in one direction: NVLink, else PCIe."""
    host_link: float
    """Bytes a second to host memory in one direction: PCIe, or NVLink-C2C."""


def _gpu(product: str, gib: float, teraflops: float, link: float, host_link: float) -> Gpu:
    return Gpu(product, int(gib * GIB), teraflops * 1e12, link * 1e9, host_link * 1e9)


GPUS = (
    _gpu("NVIDIA-B200", 178.3, 2250, 900, 64),
    _gpu("NVIDIA-GH200-480GB", 94.5, 989, 450, 450),
    _gpu("NVIDIA-GH200-144G", 139.7, 989, 450, 450),
    _gpu("NVIDIA-H200-NVL", 139.7, 835, 450, 64),
    _gpu("NVIDIA-H200", 139.7, 989, 450, 64),
    _gpu("NVIDIA-H100-NVL", 93.1, 835, 300, 64),
    _gpu("NVIDIA-H100-PCIe", 79.1, 756, 64, 64),
    _gpu("NVIDIA-H100-80GB-HBM3", 79.1, 989, 450, 64),
    _gpu("NVIDIA-H800", 79.1, 989, 200, 64),
    _gpu("NVIDIA-H20", 95.0, 148, 450, 64),
    _gpu("NVIDIA-A100-SXM4-80GB", 79.1, 312, 300, 32),
    _gpu("NVIDIA-A100-80GB-PCIe", 79.1, 312, 32, 32),
    _gpu("NVIDIA-A800", 79.1, 312, 200, 32),
    _gpu("NVIDIA-A100-SXM4-40GB", 39.4, 312, 300, 32),
    _gpu("NVIDIA-A100-PCIE-40GB", 39.4, 312, 32, 32),
    _gpu("NVIDIA-A100-PCIe-40GB", 39.4, 312, 32, 32),
    _gpu("NVIDIA-L40S", 44.4, 362, 32, 32),
    _gpu("NVIDIA-L40", 44.4, 181, 32, 32),
    _gpu("NVIDIA-RTX-6000-Ada-Generation", 47.5, 364, 32, 32),
    _gpu("NVIDIA-RTX-A6000", 47.5, 155, 32, 32),
    _gpu("NVIDIA-A40", 44.4, 150, 32, 32),
    _gpu("NVIDIA-A10G", 22.0, 70, 32, 32),
    _gpu("NVIDIA-A10", 22.0, 125, 32, 32),
    _gpu("NVIDIA-L4", 22.0, 121, 32, 32),
    _gpu("NVIDIA-GeForce-RTX-4090", 23.6, 165, 32, 32),
    _gpu("NVIDIA-GeForce-RTX-3090", 23.6, 71, 32, 32),
)


def find(product: str) -> Gpu | None:
    """The GPU of a label's value; None for one that is not in the table, and for a slice or a share of a GPU."""
    if "-MIG-" in product or product.endswith("-SHARED"):
        return None
    fitting = [gpu for gpu in GPUS if product == gpu.product or product.startswith(gpu.product + "-")]
    return max(fitting, key=lambda gpu: len(gpu.product), default=None)
