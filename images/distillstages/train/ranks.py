"""The process group: how it begins, and how the loss of a peer is told from a fault of our own."""

from __future__ import annotations

import datetime
import os
import re
import warnings
from typing import TypeVar

import torch
import torch.distributed as dist

from distillstages.common.exit import PeerLost
from distillstages.train.messages import first_line

T = TypeVar("T")

_TIMEOUT = datetime.timedelta(minutes=30)  # rank 0 may write for long while the others wait at a barrier

_LOST = re.compile(
    r"connection (closed|reset|refused)|broken pipe|socket (timeout|error)|timed out waiting|heartbeat|"
    r"no route to host|network is unreachable|gloo.*(timeout|timed out|remote)|peer.*(closed|lost|died)|"
    r"nccl.*(remote process|abort|timeout|unhandled system error)|failed to (recv|send)|"
    r"recvvalue failed|sendbytes failed",
    re.IGNORECASE | re.DOTALL,
)


def begin(on_gpu: bool) -> None:
    """Joins the process group that torchrun's environment describes: nccl on GPUs, gloo without. DeepSpeed is told
    before any model exists, because its ZeRO-3 initialisation shards parameters over this group as they are made."""
    import deepspeed

    # DeepSpeed calls torch's collectives by their old names, hundreds of times a step.
    warnings.filterwarnings("ignore", message=r".*torch\.distributed\.\w+. is deprecated", category=FutureWarning)
    if on_gpu:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    for name, value in (("RANK", "0"), ("LOCAL_RANK", "0"), ("WORLD_SIZE", "1"), ("MASTER_ADDR", "127.0.0.1")):
        os.environ.setdefault(name, value)
    os.environ.setdefault("MASTER_PORT", "29500")
    # Only its inference uses these, and on CPU it would compile them now, for a shared memory that pods do not have.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.init_distributed(dist_backend="nccl" if on_gpu else "gloo", timeout=_TIMEOUT, verbose=False)


def lost_peer(error: BaseException) -> PeerLost | None:
    """PeerLost if the error, or what caused it, is a broken connection between ranks; else None."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, (dist.DistError, RuntimeError)) and (
            isinstance(cause, dist.DistError) or _LOST.search(str(cause))
        ):
            return PeerLost(f"another rank went away: {first_line(cause)}")
        cause = cause.__cause__ or cause.__context__
    return None


def agree(value: T) -> T:
    """Rank 0's value, on every rank."""
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def gather(value: T) -> list[T]:
    """Every rank's value, by rank, on every rank."""
    found: list[T] = [value] * dist.get_world_size()
    dist.all_gather_object(found, value)
    return found


def all_true(mine: bool, device: torch.device) -> bool:
    """Whether it is true on every rank."""
    flag = torch.tensor([int(mine)], dtype=torch.int64, device=device)
    dist.all_reduce(flag, op=dist.ReduceOp.MIN)
    return bool(flag.item())
