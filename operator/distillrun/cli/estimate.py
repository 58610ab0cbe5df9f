"""`python -m distillrun estimate run.yaml`: feasibility, time and cost of a training, without a cluster.

Exit code 0 when it fits or too little is known to say, 1 when it does not fit, 2 when the input is wrong.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from dataclasses import asdict
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import yaml
from pydantic import ValidationError

from distillrun.api.v1alpha1 import Spec
from distillrun.cli import knownmodels
from distillrun.plan import dimensions, estimate, feasibility, quantity, trainsetup, workload
from distillrun.plan.dimensions import Dimensions
from distillrun.plan.feasibility import Feasibility
from distillrun.plan.memory import Parts

OK, INFEASIBLE, WRONG_INPUT = 0, 1, 2


class BadInput(ValueError):
    """What is wrong with a file or an option, as a sentence with the way forward."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options: what the resolve and curate stages would find."""
    parser.add_argument("run", metavar="run.yaml", help="a file with a DistillRun, - for standard input")
    parser.add_argument("--model-config", type=Path, help="the student's config.json (default: built-in dimensions)")
    parser.add_argument("--examples", type=_count, help="rows of the dataset (default: all rows taken are accepted)")
    parser.add_argument("--tokens", type=_count, help="tokens of the dataset, one epoch")
    parser.add_argument("--longest", type=_count, help="tokens of its longest example (default: maxSequenceLength)")
    parser.add_argument("--gpu-product", help="label nvidia.com/gpu.product of the nodes (default: train.gpuProduct)")
    parser.add_argument("--gpu-hour-price", help="price of a GPU hour (default: the run's budget.gpuHourPrice)")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of text")


def _count(text: str) -> int:
    if not text.replace("_", "").isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number above 0")
    return int(text)


def main(arguments: argparse.Namespace) -> int:
    """Print the estimate. The exit code."""
    try:
        report = make(arguments)
    except BadInput as error:
        print(f"distillrun estimate: {error}", file=sys.stderr)
        return WRONG_INPUT
    print(json.dumps(report, indent=2) if arguments.json else "\n".join(_lines(report)))
    return INFEASIBLE if report["feasible"]["status"] == "False" else OK


def make(arguments: argparse.Namespace) -> dict[str, Any]:
    """Everything that is printed. Raises BadInput."""
    name, spec = read_run(arguments.run)
    if arguments.gpu_product:
        train = spec.train.model_copy(update={"gpu_product": arguments.gpu_product})
        spec = spec.model_copy(update={"train": train})
    assumed: list[str] = []
    found = _dimensions(spec, arguments.model_config, assumed)
    resolved = {"student": {"dimensions": found}} if found else None
    curated = _curated(spec, arguments, assumed)
    price = _price(spec, arguments.gpu_hour_price)
    verdict = feasibility.judge(spec, resolved, curated)
    student = dimensions.read(resolved)
    needs: dict[str, Any] = {}
    if isinstance(student, Dimensions):
        tokens, longest = workload.known(curated)
        setup = trainsetup.of(spec.train, longest)
        need = feasibility.needs(student, setup, feasibility.limits(spec, curated), tokens)
        needs = {"gpu": need.gpu, "host": need.host, "storage": need.disk}
        if longest is None:
            assumed.append(f"the longest example fills train.maxSequenceLength, {setup.sequence} tokens (--longest)")
    training = estimate.of(spec, resolved, curated, price or Decimal(0))
    return {
        "run": name,
        "student": {"uri": spec.student.model.uri, "parameters": getattr(student, "parameters", None)},
        "gpus": {"nodes": spec.train.nodes, "perNode": spec.train.gpus_per_node},
        "feasible": asdict(verdict),
        "bytes": {key: {"total": parts.total, "parts": dict(parts.parts)} for key, parts in needs.items()},
        "training": None if training is None else asdict(training) | ({} if price else {"amount": None}),
        "missing": _missing(verdict, curated) if training is None else "",
        "price": None if price is None else {"gpuHour": str(price), "currency": spec.budget.currency},
        "assumed": assumed,
    }


def read_run(path: str) -> tuple[str, Spec]:
    """(name, spec) of the one DistillRun in a YAML or JSON file. Raises BadInput."""
    try:
        text = sys.stdin.read() if path == "-" else Path(path).read_text("utf-8")
        documents = [each for each in yaml.safe_load_all(text) if each is not None]
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    except yaml.YAMLError as error:
        raise BadInput(f"{path} is no YAML: {' '.join(str(error).split())}") from None
    runs = [each for each in documents if isinstance(each, Mapping) and each.get("kind") == "DistillRun"]
    if len(runs) != 1:
        raise BadInput(f"{path} holds {len(runs)} objects of kind DistillRun, expected one")
    metadata = runs[0].get("metadata")
    name = metadata.get("name") if isinstance(metadata, Mapping) else None
    try:
        spec = Spec.model_validate(runs[0].get("spec"))
    except ValidationError as error:
        problems = "; ".join(_problem(each) for each in error.errors()[:8])
        raise BadInput(f"{path}: {problems}") from None
    setup = trainsetup.of(spec.train)
    if not setup.fits_batch:
        raise BadInput(
            f"{path}: train.globalBatchSize {setup.global_batch} is not a multiple of microBatchSize "
            f"{setup.micro_batch} × {setup.ranks} GPUs: change one of them"
        )
    if setup.offload_parameters and setup.zero_stage < 3:
        raise BadInput(
            f"{path}: train.deepspeed.offloadParameters needs zeroStage 3, it is {setup.zero_stage}: set "
            "zeroStage: 3 or offloadParameters: false"
        )
    return str(name or path), spec


def _problem(error: Any) -> str:
    where = ".".join(str(part) for part in ("spec", *error["loc"]))
    return f"{where}: {error['msg'][:1].lower()}{error['msg'][1:]}"


def _dimensions(spec: Spec, path: Path | None, assumed: list[str]) -> dict[str, Any] | None:
    uri = spec.student.model.uri
    if path is None:
        parts = urlsplit(uri)
        local = Path(unquote(parts.path)) / "config.json"
        if parts.scheme == "hf":
            config = knownmodels.config(f"{parts.netloc}{parts.path}".strip("/"))
            if config is not None:
                assumed.append(f"{uri} has the dimensions built into this program (--model-config)")
                return dimensions.of_config(config)
        if parts.scheme != "file" or not local.is_file():
            return None
        path = local
    try:
        config = json.loads(path.read_text("utf-8"))
        if not isinstance(config, dict):
            raise ValueError("it holds no JSON object")
        return dimensions.of_config(config)
    except (OSError, ValueError) as error:
        raise BadInput(f"{path}: {getattr(error, 'strerror', None) or error}") from None


def _curated(spec: Spec, arguments: argparse.Namespace, assumed: list[str]) -> dict[str, str]:
    """As the curate stage would report it."""
    examples = arguments.examples
    takes = [source.take if source.share is None else None for source in spec.curate.sources]
    if examples is None and spec.curate.dataset is not None and spec.curate.dataset.take:
        examples = spec.curate.dataset.take
        assumed.append(f"all of the {examples} rows of the dataset can be used (--examples)")
    if examples is None and takes and all(takes):
        examples = sum(take for take in takes if take) * spec.curate.generate.samples
        assumed.append(f"curation accepts all of the {examples} answers that it asks for (--examples)")
    numbers = {"accepted": examples, "datasetTokens": arguments.tokens, "longestTokens": arguments.longest}
    return {name: str(number) for name, number in numbers.items() if number is not None}


def _price(spec: Spec, option: str | None) -> Decimal | None:
    text = option or spec.budget.gpu_hour_price
    try:
        price = Decimal(text) if text else None
    except InvalidOperation:
        raise BadInput(f"--gpu-hour-price is {text!r}: give a decimal number such as 2.96") from None
    if price is not None and not 0 <= price < 10**9:
        raise BadInput(f"--gpu-hour-price is {text!r}: give a number from 0")
    return price


def _missing(verdict: Feasibility, curated: Mapping[str, str]) -> str:
    missing = []
    if verdict.reason == feasibility.STUDENT_UNKNOWN:
        missing.append("the student's dimensions (--model-config)")
    if verdict.reason == feasibility.GPU_UNKNOWN:
        missing.append("the GPU (train.gpuProduct or --gpu-product)")
    if "accepted" not in curated:
        missing.append("the number of examples (--examples)")
    if "datasetTokens" not in curated:
        missing.append("the dataset's tokens (--tokens)")
    return f"not estimated without {', '.join(missing) or 'train.gpuProduct'}"


def _lines(report: Mapping[str, Any]) -> list[str]:
    student, on = report["student"], report["gpus"]
    parameters = f", {student['parameters'] / 1e9:.2f} B parameters" if student["parameters"] else ""
    lines = [
        f"{report['run']}: {student['uri']}{parameters}, on {on['nodes']} × {on['perNode']} GPUs",
        f"Feasible  {report['feasible']['status']} ({report['feasible']['reason']}): {report['feasible']['message']}",
    ]
    for key, title in (("gpu", "Each GPU"), ("host", "Each pod"), ("storage", "Storage ")):
        if key in report["bytes"]:
            need = report["bytes"][key]
            lines.append(f"{title}  {_parts(Parts(need['parts']))}")
    training, price = report["training"], report["price"]
    if training is None:
        lines.append(f"Time      {report['missing']}")
    else:
        hours = training["gpu_seconds"] / 3600
        lines.append(
            f"Time      {_duration(training['seconds'])}: {training['steps']:,} steps, "
            f"{training['tokens'] / 1e6:,.1f} M tokens, {hours:,.1f} GPU-hours"
        )
        lines.append(
            f"Cost      {training['amount']} {price['currency']} at {price['gpuHour']} a GPU-hour"
            if price
            else "Cost      not known without a price (budget.gpuHourPrice or --gpu-hour-price)"
        )
        lines.append(f"Method    {training['method']}")
    lines.extend(f"Assumed   {words}" for words in report["assumed"])
    return lines


def _parts(parts: Parts) -> str:
    named = sorted(parts.parts.items(), key=lambda part: -part[1])
    return f"{quantity.words(parts.total)}: {', '.join(f'{name} {quantity.words(size)}' for name, size in named)}"


def _duration(seconds: int) -> str:
    minutes = max(round(seconds / 60), 1)
    days, hours, minutes = minutes // 1440, minutes % 1440 // 60, minutes % 60
    words = [f"{days} d"] * bool(days) + [f"{hours} h"] * bool(hours or days) + [f"{minutes} min"]
    return " ".join(words)
