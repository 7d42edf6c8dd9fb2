"""A process that makes blocks, and those who give it work: one line of JSON for a block, one for the answer.

Started as ``python -m openfoldpp.motifs.build_worker``, so that a script that makes a library is not imported
again. It ends when its input does: with the process that started it, however that ends.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from openfoldpp.errors import InputError, InsufficientMemoryError, OpenFoldPPError
from openfoldpp.motifs.build_blocks import make_block
from openfoldpp.motifs.build_inputs import Source


@dataclass(frozen=True)
class Task:
    """A block to be made.

    Attributes
    ----------
    number : int
        Its number.
    path : pathlib.Path
        Its file.
    sources : tuple of Source
        The structures.
    plm : str
        Name of the language model.
    """

    number: int
    path: Path
    sources: tuple[Source, ...]
    plm: str


def make_blocks(tasks: Iterable[Task], jobs: int) -> Iterator[tuple[int, int]]:
    """Make blocks.

    Parameters
    ----------
    tasks : iterable of Task
        Which.
    jobs : int
        Processes; 0 or 1: this one.

    Yields
    ------
    (int, int)
        Number and shingles of each block as it is done, in any order.

    Raises
    ------
    InputError
        A file has changed since it was hashed.
    InsufficientMemoryError
        A process was ended from outside.
    """
    if jobs <= 1:
        for task in tasks:
            yield task.number, make_block(task.path, list(task.sources), task.plm)
        return
    waiting = iter(tasks)
    workers: list[subprocess.Popen[bytes]] = []
    with selectors.DefaultSelector() as selector:
        try:
            for _, task in zip(range(jobs), waiting, strict=False):
                worker = _start()
                workers.append(worker)
                selector.register(worker.stdout, selectors.EVENT_READ, worker)
                _give(worker, task)
            while selector.get_map():
                for key, _ in selector.select():
                    worker = key.data
                    yield _answer(worker)
                    task = next(waiting, None)
                    if task is None:
                        selector.unregister(worker.stdout)
                    else:
                        _give(worker, task)
        finally:
            # Those with work are not waited for: a block is complete or not there.
            for worker in workers:
                worker.terminate()
                worker.communicate()


def _start() -> subprocess.Popen[bytes]:
    # Ours is the path of modules, which may have been changed since this process began.
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return subprocess.Popen(  # noqa: S603
        # -P: a folder named openfoldpp where the user stands is not this package.
        [sys.executable, "-P", "-m", __name__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        bufsize=0,
        env=environment,
    )


def _give(worker: subprocess.Popen[bytes], task: Task) -> None:
    document = {
        "number": task.number,
        "path": str(task.path),
        "sources": [[one.name, str(one.path), one.sha256] for one in task.sources],
        "plm": task.plm,
    }
    try:
        worker.stdin.write(json.dumps(document).encode() + b"\n")
    except BrokenPipeError as error:
        raise _ended(worker) from error


def _answer(worker: subprocess.Popen[bytes]) -> tuple[int, int]:
    line = worker.stdout.readline()
    if not line.endswith(b"\n"):
        raise _ended(worker)
    answer = json.loads(line)
    if "error" in answer:
        raise InputError(answer["error"])
    return answer["number"], answer["shingles"]


def _ended(worker: subprocess.Popen[bytes]) -> OpenFoldPPError:
    code = worker.wait()
    if code == -signal.SIGKILL:
        return InsufficientMemoryError(
            "a process was killed from outside, most likely for want of memory; give fewer --jobs. The same "
            "command goes on from there"
        )
    return InputError(
        f"a process that reads structures ended with exit code {code}; what it said stands above. The same "
        "command goes on from there"
    )


def _serve() -> None:
    # Ctrl-C reaches every process of a terminal, and the one that started this one deals with it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # What a library prints must not pass for an answer.
    answers, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        task = json.loads(line)
        sources = [Source(name, Path(path), sha256) for name, path, sha256 in task["sources"]]
        try:
            shingles = make_block(Path(task["path"]), sources, task["plm"])
            answer = {"number": task["number"], "shingles": shingles}
        except OpenFoldPPError as error:
            answer = {"error": str(error)}
        try:
            print(json.dumps(answer), file=answers, flush=True)
        except BrokenPipeError:
            # Nobody waits for the answer. Without Python's own end, which would flush once more.
            os._exit(1)


if __name__ == "__main__":
    _serve()
