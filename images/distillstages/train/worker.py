"""One rank of the training. Read `train` from top to bottom: it is the whole stage.

torchrun starts this module on every node, as many times as there are GPUs (or CPU shares) to use.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distillstages.common import traceformat, worker
from distillstages.common.exit import Fault, PeerLost, StageError, Terminated
from distillstages.common.files import storage_errors, storage_fault, sync_file, sync_folder
from distillstages.common.progress import Progress
from distillstages.common.stall import START_FACTOR
from distillstages.common.worker import Context
from distillstages.train import dataset, deepspeed_config, examples, plan, student

if TYPE_CHECKING:
    from distillstages.train.checkpoints import Checkpoints
    from distillstages.train.student import Conversation
    from distillstages.train.trainer import Trainer

_log = logging.getLogger("distillstages.train")
_DISK_FULL = re.compile(r"no space left|os error 28|disk quota|PytorchStreamWriter failed|inline_container", re.I)


def train(context: Context) -> Mapping[str, Any]:
    """Trains the student and publishes the model; returns the headline numbers. Every rank runs this."""
    config, output = context.config.train, context.output
    assert config is not None
    is_first = os.environ.get("RANK", "0") == "0"
    # Fetching, tokenizing, loading, compiling: nothing can be seen to move until there is a first step (report.py).
    context.metrics.set_patience(START_FACTOR)

    # What can be wrong with the input is found before anything slow: no torch so far.
    batches = plan.split_batch(config)
    folder = student.fetch(config.student, check=is_first)
    system_prompt = config.system_prompt
    if system_prompt is None:
        system_prompt = traceformat.default_system_prompt(config.trace_format)
    conversation = student.load_conversation(folder, config.student.uri, system_prompt or None)
    data = examples.encode_rows(
        conversation,
        config.trace_format,
        dataset.read_rows(config.dataset),
        limit=config.max_sequence_length,
        on_overlong=config.on_overlong,
    )
    _say("examples ready", examples=len(data.rows), longest=data.longest, dropped=data.dropped, cut=data.truncated)
    _stop_if_asked(context)

    import torch

    from distillstages.train import arguments, manifest, ranks
    from distillstages.train.checkpoints import Checkpoints
    from distillstages.train.report import Report, StepLog
    from distillstages.train.resume import choose
    from distillstages.train.trainer import Collator, Trainer

    on_gpu = torch.cuda.is_available()
    ranks.begin(on_gpu)

    # Rank 0 alone has claimed the output; what all write lies under its claim's number.
    checkpoints = Checkpoints(output, keep=config.checkpoint.keep, token=ranks.agree(output.token))
    if is_first:
        checkpoints.prepare()
    ranks.agree(None)
    device = torch.device("cuda", torch.cuda.current_device()) if on_gpu else torch.device("cpu")
    if not ranks.all_true(checkpoints.partial.is_dir(), device):
        raise Fault(f"{checkpoints.folder} is not the same folder on all nodes; training needs a volume shared by them")
    rank = torch.distributed.get_rank()
    start = choose(checkpoints, ranks, rank=rank, ranks=batches.ranks, every_steps=config.checkpoint.every_steps)
    resume = start.checkpoint

    # The arguments come before the model: from then on from_pretrained loads it in ZeRO-3 shards.
    deepspeed = deepspeed_config.build(config, batches, on_gpu=on_gpu)
    arguments_ = arguments.build(
        config, batches, deepspeed, folder=checkpoints.partial, seed=context.config.seed, on_gpu=on_gpu
    )
    model = _load_model(folder, config.precision, on_gpu)
    for name, value in student.generation_settings(conversation, model.generation_config.eos_token_id).items():
        setattr(model.generation_config, name, value)
    _stop_if_asked(context)

    with contextlib.ExitStack() as stack:
        log = None
        if is_first:
            done, total = resume.step if resume else 0, config.max_steps or 0
            progress = stack.enter_context(Progress(context.metrics, unit="steps", total=total, done=done))
            log = StepLog(output, context.metrics, progress)
            if resume:
                context.metrics.set("resumed_from_step", resume.step)
                log.checkpoint(resume.step, resume.time)
            if start.damaged:
                context.metrics.set("damaged_checkpoints", start.damaged)

        def publish(step: int) -> None:
            """On every rank, after it wrote its part of a checkpoint."""
            folder = checkpoints.partial / f"checkpoint-{step}"
            torch.distributed.barrier()  # rank 0 makes the folder, and its files' names are for all to see
            files = ranks.gather(manifest.describe(folder, rank, batches.ranks))
            if is_first and log:
                all_files = {name: what for each in files for name, what in each.items()}
                log.checkpoint(step, checkpoints.publish(step, batches.ranks, all_files).time)
            torch.distributed.barrier()  # a rank that ended earlier would make its Job end this one meanwhile

        trainer = Trainer(
            model,
            args=arguments_,
            train_dataset=_as_dataset(data),
            processing_class=conversation.tokenizer,
            data_collator=Collator(conversation.padding, on_all=config.loss_on == "All"),
            normalization=config.loss_normalization,
            publish=publish,
            metrics=context.metrics,
        )
        report = Report(context.stopping, lambda: trainer.tokens, log=log, metrics=context.metrics, device=device)
        trainer.add_callback(report)
        _quieten(trainer)
        parameters = sum(getattr(each, "ds_numel", each.numel()) for each in model.parameters())
        resumed = resume.step if resume else None
        _say("training", parameters=parameters, ranks=batches.ranks, resumedFromStep=resumed, damaged=start.damaged)
        trainer.train(resume_from_checkpoint=str(resume.path) if resume else None)
        if not report.stopped:
            context.metrics.set_patience(START_FACTOR)
            _save_model(trainer, checkpoints, conversation, is_first)

    if report.stopped:  # every rank saved a checkpoint after this same step
        if context.stopping.is_set():
            raise Terminated(f"asked to stop: a checkpoint was saved after step {trainer.state.global_step}")
        raise PeerLost(f"another rank was asked to stop; a checkpoint was saved at {trainer.state.global_step}")

    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    numbers = {
        "steps": trainer.state.global_step,
        "loss": round(float(losses[-1]), 6) if losses else None,
        "examples": len(data.rows),
        "tokens": log.tokens() if log else trainer.tokens,
        "parameters": parameters,
        "resumedFromStep": resumed,
        "damagedCheckpoints": start.damaged,
        "dropped": data.dropped,
        "truncated": data.truncated,
    }
    if is_first:
        outputs, moves = {"model": "model/", "metrics": "metrics.jsonl"}, {"model": checkpoints.partial_path("model")}
        numbers = dict(output.publish(numbers, outputs, moves=moves).numbers)
        checkpoints.clear()
    # No rank says that it succeeded before the first has published, and all say the same.
    return ranks.agree(numbers)


def body(context: Context) -> Mapping[str, Any]:
    """`train`, with the errors of its libraries as ours."""
    try:
        return train(context)
    except StageError:
        raise
    except Exception as error:
        meaning = failure(error)
        if meaning is None:
            raise
        if context.stopping.is_set() and isinstance(meaning, PeerLost):
            raise Terminated("asked to stop, as were the other ranks; the last checkpoint stands") from error
        raise meaning from error


def failure(error: Exception) -> StageError | None:
    """What an error means where it is not just a fault: a full disk, which torch and safetensors hide in errors of
    their own, or a lost peer."""
    from distillstages.train import ranks

    if _DISK_FULL.search(str(error)):
        full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return storage_fault(full, "writing a checkpoint or the model")
    return ranks.lost_peer(error)


def _load_model(folder: Path, precision: str, on_gpu: bool) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(
        folder,
        dtype=torch.bfloat16 if precision == "BF16" else torch.float32,
        attn_implementation="flash_attention_2" if on_gpu and _has_flash_attention() else "sdpa",
    )


def _has_flash_attention() -> bool:
    from importlib.util import find_spec

    return find_spec("flash_attn") is not None


def _as_dataset(data: examples.Examples) -> Any:
    from datasets import Dataset

    rows = data.rows
    return Dataset.from_dict(
        {"input_ids": [row.input_ids for row in rows], "completion_start": [row.completion_start for row in rows]}
    )


def _quieten(trainer: Trainer) -> None:
    """The trainer's own printing of each step: the progress line says it already."""
    from transformers import PrinterCallback

    trainer.remove_callback(PrinterCallback)


def _save_model(trainer: Trainer, checkpoints: Checkpoints, conversation: Conversation, is_first: bool) -> None:
    """Gathers the weights to rank 0, which writes model, tokenizer and template where `publish` takes them from."""
    partial = checkpoints.partial / "model"
    with storage_errors(str(partial)):
        trainer.save_model(str(partial))
        if not is_first:
            return
        conversation.tokenizer.save_pretrained(partial)
        (partial / "training_args.bin").unlink(missing_ok=True)  # a pickle of our configuration: no part of a model
        for path in partial.iterdir():
            path.chmod(0o664)  # safetensors writes 0600, and the server may be another user of our group
            sync_file(path)
        sync_folder(partial)


def _stop_if_asked(context: Context) -> None:
    if context.stopping.is_set():
        raise Terminated("asked to stop before the first step; the next attempt continues from the last checkpoint")


def _say(message: str, **fields: Any) -> None:
    if os.environ.get("RANK", "0") == "0":
        _log.info(message, extra={"fields": fields})


if __name__ == "__main__":
    worker.run("train", body, claim=os.environ.get("RANK", "0") == "0", graceful=True)
