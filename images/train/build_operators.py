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
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

# Set before DeepSpeed is imported, which looks for an accelerator then: it is the CPU's builders that are wanted.
os.environ["DS_ACCELERATOR"] = "cpu"

import deepspeed
import torch
from deepspeed.git_version_info import installed_ops, version
from deepspeed.ops.op_builder.cpu import CPUAdamBuilder, ShareMemCommBuilder
from setuptools import Distribution
from torch.utils.cpp_extension import BuildExtension

# The optimizer of offloaded states runs on the CPU with and without an accelerator. The collectives through shared
# memory are loaded by torch.distributed's gloo backend under DeepSpeed, wanted or not, where there is no accelerator.
EVERYWHERE = (CPUAdamBuilder,)
WITHOUT_ACCELERATOR = (ShareMemCommBuilder,)
# Compiled as one translation unit, because nearly all of the time goes into reading torch's headers. (The sources of
# the collectives define some names twice and cannot be.)
ONE_UNIT = (CPUAdamBuilder,)

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


def compile_operator(builder_class: type, arch: str, simd: str, output: Path) -> None:
    """Compile one operator into ``output``/deepspeed/ops/…, laid out as in site-packages.

    Args:
        builder_class: which of DeepSpeed's builders.
        arch: what -march= is to be, for example x86-64-v3.
        simd: which of DeepSpeed's vector code paths to compile: AVX512, AVX256 or SCALAR.
    """
    os.chdir(Path(deepspeed.__file__).parent / "ops")  # the builders name their sources relative to it
    builder = builder_class()
    builder.cpu_arch = lambda: f"-march={arch}"
    builder.simd_width = lambda: f"-D__{simd}__"
    extension = builder.builder()
    temporary = output / f"temporary-{builder.NAME}"
    temporary.mkdir(parents=True)
    if builder_class in ONE_UNIT:
        unit = temporary / f"{builder.NAME}.cpp"
        unit.write_text("".join(f'#include "{Path(source).absolute()}"\n' for source in extension.sources))
        extension.sources = [str(unit)]
    # Debug information would take a third of the time and most of the size.
    extension.extra_compile_args["cxx"] += ["-g0", "-Wno-unknown-pragmas"]
    command = BuildExtension(Distribution({"ext_modules": [extension]}), no_python_abi_suffix=True)
    command.build_lib = str(output)
    command.build_temp = str(temporary)
    command.ensure_finalized()
    command.run()
    shutil.rmtree(temporary)


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
    output = arguments.output.absolute()
    with ProcessPoolExecutor() as pool:
        for job in [
            pool.submit(compile_operator, builder, arguments.cpu_arch, arguments.simd, output)
            for builder in (*EVERYWHERE, *WITHOUT_ACCELERATOR)
        ]:
            job.result()
    write_installed(output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
