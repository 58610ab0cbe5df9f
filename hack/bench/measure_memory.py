"""Measures the peak memory of real small trainings on the CPU and compares it with the memory model's.

PYTHONPATH=operator:images python hack/bench/measure_memory.py [--case NAME ...]

Each case is one process that runs the train stage's worker (TRL, DeepSpeed, a Qwen2 of random weights) for two steps;
its peak resident memory is what the kernel says when it ends. What is compared are differences from the first case,
so that Python, torch and the framework's own memory cancel out. The last line is a JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "operator"), str(ROOT / "images"), str(ROOT / "hack/bench")]

from memory_cases import CASES, Case, predicted  # noqa: E402

from tests.stages.train import worlds  # noqa: E402


def measured(case: Case, folder: Path) -> tuple[int, int]:
    """Peak resident bytes of the case's process, and bytes of its checkpoint. Raises RuntimeError with the end of its
    log when it fails."""
    folder.mkdir()
    student, dataset = _student(folder / "student", case.config), _dataset(folder / "dataset", case)
    spec = case.spec
    config = worlds.configuration(
        folder,
        student,
        dataset,
        distributed={"nodes": 1, "processesPerNode": spec.gpus_per_node},
        maxSteps=spec.max_steps,
        learningRate=1e-4,
        globalBatchSize=spec.global_batch_size,
        microBatchSize=spec.micro_batch_size,
        maxSequenceLength=spec.max_sequence_length,
        onOverlong="Truncate",
        precision=spec.precision,
        gradientCheckpointing=spec.gradient_checkpointing,
        checkpoint={"everySteps": 1, "keep": 1},
        deepspeed={
            "zeroStage": spec.deepspeed.zero_stage,
            "offloadOptimizer": spec.deepspeed.offload_optimizer,
            "offloadParameters": spec.deepspeed.offload_parameters,
            "config": spec.deepspeed.config,
        },
    )
    log = folder / "log"
    port = 29700 + os.getpid() % 200
    count = spec.gpus_per_node
    status, peak = _in_children(lambda rank: _train(config, rank, count, port), count, log)
    if status:
        raise RuntimeError(f"{case.name}: status {status}: {log.read_text(errors='replace')[-3000:]}")
    written = (folder / "output/checkpoints").glob("checkpoint-1-*/**/*")
    return peak, sum(path.stat().st_size for path in written if path.is_file())


def _in_children(work: Callable[[int], object], count: int, log: Path) -> tuple[int, int]:
    """(wait status, largest peak in resident bytes) of forked processes that do the work, each told its rank. They
    begin with what this process has imported, which is the same for all cases and cancels out."""
    pids = []
    for rank in range(count):
        pid = os.fork()
        if pid == 0:
            _do(lambda rank=rank: work(rank), log)
        pids.append(pid)
    ends = [os.wait4(pid, 0)[1:] for pid in pids]
    return max(status for status, _ in ends), max(usage.ru_maxrss for _, usage in ends) * 1024


def _do(work: Callable[[], object], log: Path) -> NoReturn:
    code = 1
    try:
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        work()
        code = 0
    except SystemExit as end:
        code = int(end.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def _train(config: Path, rank: int, count: int, port: int) -> None:
    from distillstages.common import worker
    from distillstages.train.worker import body

    os.environ["DISTILLRUN_TERMINATION_LOG"] = str(config.parent / "termination")
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(count), MASTER_PORT=str(port))
    os.environ["MASTER_ADDR"] = "127.0.0.1"
    sys.argv = ["worker", "--config", str(config)]
    worker.run("train", body, claim=rank == 0, graceful=True)


def _student(folder: Path, config: dict[str, Any]) -> Path:
    """Made in a child, so that this process stays as small as it is."""

    def make(rank: int) -> None:
        import torch
        from transformers import Qwen2Config, Qwen2ForCausalLM

        from distillstages.demo import pupil

        settings = {key: value for key, value in config.items() if key != "model_type"}
        Qwen2ForCausalLM(Qwen2Config(bos_token_id=None, **settings)).to(torch.bfloat16).save_pretrained(folder)
        pupil.make_tokenizer().save_pretrained(folder)

    log = folder.parent / "student.log"
    status, _ = _in_children(make, 1, log)
    if status:
        raise RuntimeError(log.read_text(errors="replace")[-3000:])
    return folder


def _dataset(folder: Path, case: Case) -> Path:
    """A step's rows, cut to the limit; where a micro batch holds several, one of them is shorter."""
    count, limit = case.spec.global_batch_size, case.spec.max_sequence_length
    padded = case.spec.micro_batch_size > 1
    rows = [
        {
            "id": f"row-{number}",
            "source": "bench",
            "question": "1+1",
            "reference": "2",
            "thinking": "1" * (limit // 2 if padded and number == count - 1 else 2 * limit),
            "response": "2",
            "sample": 0,
        }
        for number in range(count)
    ]
    return worlds.save_dataset(folder, rows)


def compare(cases: list[Case], report: Any = print) -> list[dict[str, Any]]:
    """Measures and predicts each case; differences are from the first of them."""
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="bench-memory-") as folder:
        for number, case in enumerate(cases):
            row: dict[str, Any] = {"case": case.name}
            row["peak"], row["checkpoint"] = measured(case, Path(folder) / str(number))
            row["predictedPeak"], row["predictedCheckpoint"] = predicted(case)
            if rows:
                row["measured"] = row["peak"] - rows[0]["peak"]
                row["predicted"] = row["predictedPeak"] - rows[0]["predictedPeak"]
                row["error"] = round(row["predicted"] / row["measured"] - 1, 3)
            rows.append(row)
            report(line(row))
    return rows


def line(row: dict[str, Any]) -> str:
    """A row of the table in docs/benchmarks.md, in megabytes."""
    if "measured" not in row:
        return f"| {row['case']} | {row['peak'] / 1e6:.0f} in all | | | |"
    memory = f"{row['measured'] / 1e6:.0f} | {row['predicted'] / 1e6:.0f} | {row['error']:+.1%}"
    return f"| {row['case']} | {memory} | {row['checkpoint'] / 1e6:.0f}, {row['predictedCheckpoint'] / 1e6:.0f} |"


SETTINGS = {
    "DISTILLRUN_METRICS_PORT": "0",
    "TORCH_EXTENSIONS_DIR": str(worlds.extensions_folder()),
    "DS_ACCELERATOR": "cpu",
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "OMP_NUM_THREADS": "1",
    # What is freed goes back to the kernel at once, or the peak would be the allocator's.
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": "65536",
    "MALLOC_TRIM_THRESHOLD_": "65536",
}


def main() -> int:
    """The command line."""
    if not SETTINGS.items() <= os.environ.items():  # the allocator reads its settings when the process starts
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **SETTINGS, "PATH": path})
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", action="append", default=[], help="only these cases, and the first")
    chosen = parser.parse_args().case
    cases = [each for each in CASES if each is CASES[0] or not chosen or each.name in chosen]
    import deepspeed  # noqa: F401
    import trl  # noqa: F401

    import distillstages.train.trainer
    import distillstages.train.worker  # noqa: F401

    print("| case, against the first | measured, MB more | model, MB more | error | checkpoint: measured, model, MB |")
    print("| --- | --- | --- | --- | --- |")
    rows = compare(cases, lambda text: print(text, flush=True))
    errors = {row["case"]: row["error"] for row in rows[1:]}
    checkpoints = {row["case"]: row["predictedCheckpoint"] / row["checkpoint"] - 1 for row in rows[1:]}
    summary = {
        "bench": "memory",
        "worst": max(map(abs, errors.values())),
        "worstCheckpoint": max(map(abs, checkpoints.values())),
        "errors": errors,
        "checkpointErrors": {name: round(error, 3) for name, error in checkpoints.items()},
    }
    print(json.dumps(summary))
    return 0


if __name__ == "__main__":
    sys.exit(main())
