"""Compile DeepSpeed's host-side operators into the train image.

DeepSpeed's own ahead-of-time build (DS_BUILD_CPU_ADAM=1) always compiles for the machine that it runs on
(-march=native), so that an image built on one CPU dies with an illegal instruction on another. This compiles the same
sources for an instruction set that is named, and writes the file in which DeepSpeed looks up what is installed.

Source: DeepSpeed 0.19.8, setup.py and op_builder/ (what is written here is what they would write).
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from pathlib import Path

# Set before DeepSpeed is imported, which looks for an accelerator then: it is the CPU's builders that are wanted.
os.environ["DS_ACCELERATOR"] = "cpu"

import deepspeed
import torch
from deepspeed.git_version_info import installed_ops, version
from deepspeed.ops.op_builder.cpu import CPUAdamBuilder, FusedAdamBuilder, ShareMemCommBuilder
from setuptools import Distribution
from torch.utils.cpp_extension import BuildExtension

# With an accelerator only the host-side Adam is taken from here: the fused one has the same name there but is CUDA.
EVERYWHERE = (CPUAdamBuilder,)
WITHOUT_ACCELERATOR = (FusedAdamBuilder, ShareMemCommBuilder)

INSTALLED = '''"""What was compiled into this image; written by build_operators.py."""
from deepspeed.accelerator import get_accelerator

version = {version!r}
git_hash = git_branch = "unknown"
accelerator_name = get_accelerator()._name
installed_ops = {ops!r}
installed_ops.update(dict.fromkeys({everywhere!r}, True))
if accelerator_name == "cpu":
    installed_ops.update(dict.fromkeys({without!r}, True))
torch_info = {torch_info!r}
'''


def compile_operators(arch: str, simd: str, output: Path) -> None:
    """Compile into ``output``/deepspeed/ops, laid out as in site-packages.

    Args:
        arch: what -march= is to be, for example x86-64-v3.
        simd: which of DeepSpeed's vector code paths to compile: AVX512, AVX256 or SCALAR.
    """
    sources = Path(deepspeed.__file__).parent / "ops"
    os.chdir(sources)  # the builders name their sources relative to it
    extensions = []
    for builder_class in (*EVERYWHERE, *WITHOUT_ACCELERATOR):
        builder = builder_class()
        builder.cpu_arch = lambda: f"-march={arch}"
        builder.simd_width = lambda: f"-D__{simd}__"
        extensions.append(builder.builder())
    command = BuildExtension(Distribution({"ext_modules": extensions}), no_python_abi_suffix=True)
    command.build_lib = str(output)
    command.build_temp = str(output / "temporary")
    command.ensure_finalized()
    command.run()
    shutil.rmtree(output / "temporary")


def write_installed(output: Path) -> None:
    """Write the module in which DeepSpeed looks up which operators need no compiling."""
    text = INSTALLED.format(
        version=version,
        ops=dict.fromkeys(installed_ops, False),
        everywhere=[builder.NAME for builder in EVERYWHERE],
        without=[builder.NAME for builder in WITHOUT_ACCELERATOR],
        torch_info={
            "version": ".".join(torch.__version__.split(".")[:2]),
            "bf16_support": False,
            "cuda_version": ".".join((torch.version.cuda or "0.0").split(".")[:2]),
            "nccl_version": "0.0",
            "hip_version": "0.0",
        },
    )
    (output / "deepspeed" / "git_version_info_installed.py").write_text(text)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--cpu-arch", required=True)
    parser.add_argument("--simd", required=True, choices=["AVX512", "AVX256", "SCALAR"])
    parser.add_argument("--output", required=True, type=Path)
    arguments = parser.parse_args()
    compile_operators(arguments.cpu_arch, arguments.simd, arguments.output.absolute())
    write_installed(arguments.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
