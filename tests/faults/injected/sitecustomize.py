"""Brings faults into worker processes; on the Python path of the tests that want one.

Python imports this in every process. Where the environment names a fault, ``Worker`` is wrapped as
soon as its module is imported: the program itself has no place at which faults could be ordered.
"""

import importlib.abc
import importlib.machinery
import json
import os
import signal
import sys
import threading
from contextlib import suppress

MODULE = "sweeper.run.worker"


class _Wrapping(importlib.abc.Loader):
    def __init__(self, loader, options):
        self._loader, self._options = loader, options

    def create_module(self, spec):
        return self._loader.create_module(spec)

    def exec_module(self, module):
        self._loader.exec_module(module)
        wrap(module.Worker, self._options)


class _Finder(importlib.abc.MetaPathFinder):
    def __init__(self, options):
        self._options = options

    def find_spec(self, name, path, target=None):
        if name != MODULE:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        spec.loader = _Wrapping(spec.loader, self._options)
        return spec


def wrap(worker, options):
    """Let the fault come where it is due, just before cells are computed."""
    compute = worker._compute

    def disturbed(self, held, unit, rows):
        undo = None
        if any(cell.condition == options["condition"] for cell in unit.cells) and due(options):
            undo = FAULTS[options["fault"]](options)
        try:
            return compute(self, held, unit, rows)
        finally:
            if undo is not None:
                undo()

    worker._compute = disturbed


def due(options):
    """Whether the fault may come: every time, or for the first of all processes that asks."""
    if options["once"] is None:
        return True
    with suppress(FileExistsError):
        os.close(os.open(options["once"], os.O_CREAT | os.O_EXCL))
        return True
    return False


def wait(_options):
    """Wait for what never comes; the process lives on."""
    threading.Event().wait()


def spin(_options):
    """Compute for ever, in vain."""
    while True:
        pass


def die(_options):
    """As if the kernel had killed the process."""
    os.kill(os.getpid(), signal.SIGKILL)


def eat(options):
    """Take memory of the host until something happens."""
    taken = []
    for _ in range(options["gigabytes"] * 16):
        taken.append(bytearray(os.urandom(1)) * 2**26)
    threading.Event().wait()


def limit(options):
    """Leave so many bytes of memory for this unit."""
    import resource

    with open("/proc/self/statm") as stream:
        used = int(stream.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + options["bytes"], before[1]))
    return lambda: resource.setrlimit(resource.RLIMIT_AS, before)


FAULTS = {"wait": wait, "spin": spin, "die": die, "eat": eat, "limit": limit}

if "SWEEPER_INJECTED_FAULT" in os.environ:
    sys.meta_path.insert(0, _Finder(json.loads(os.environ["SWEEPER_INJECTED_FAULT"])))
