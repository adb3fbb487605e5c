"""Processes of this Python that know this anomap, wherever they run."""

import json
import os
import sys
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

import anomap

Tasks = Mapping[str, Callable[..., Any]]


def environment() -> dict[str, str]:
    """The environment for a process that imports the anomap that is running here."""
    here = (Path(anomap.__file__).parents[1], Path(__file__).parents[1])  # of anomap, of the benchmark
    earlier = os.environ.get("PYTHONPATH")
    paths = [*(str(path.resolve()) for path in here), *([earlier] if earlier else [])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def serve(tasks_of: Callable[[dict[str, Any]], Tasks]) -> None:
    """Be a worker: make the tasks of the specification in the file that the command line names, and answer until input ends.

    Each line of standard input is a JSON object `{"do": NAME, ...}`; each line of standard output answers it. Everything that a
    library prints goes to standard error.
    """
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    warnings.simplefilter("ignore")
    spec = json.loads(Path(sys.argv[1]).read_text())
    torch.set_num_threads(spec["threads"])
    tasks = tasks_of(spec)
    for line in sys.stdin:
        request = json.loads(line)
        answers.write(json.dumps(tasks[request.pop("do")](**request)) + "\n")
        answers.flush()
