"""Records for tests, with what a test does not care about filled in."""

from typing import Any

from sweeper.records import Cell, Checkpoint, Condition, Unit


def checkpoint(**changes: Any) -> Checkpoint:
    facts: dict[str, Any] = {
        "model": "m",
        "revision": "main",
        "location": "org/m",
        "commit": "abc",
        "fingerprint": "hub:abc",
        "origin": "hub org/m",
        "model_type": "llama",
        "num_layers": 4,
        "num_neurons": 32,
        "context": 64,
        "dtype": "float32",
        "attention": "sdpa",
        "device": "cpu",
    }
    return Checkpoint(**{**facts, **changes})


def condition(**changes: Any) -> Condition:
    facts: dict[str, Any] = {
        "name": "top",
        "seed": None,
        "operation": "negative_clamp",
        "neurons": {0: (1, 2)},
    }
    return Condition(**{**facts, **changes})


def cell(key: str, **changes: Any) -> Cell:
    facts: dict[str, Any] = {
        "key": key,
        "kind": "score",
        "model": "m",
        "revision": "main",
        "condition": "top",
        "seed": None,
        "condition_key": "c",
        "task": "t",
        "cost": 10.0,
    }
    return Cell(**{**facts, **changes})


def unit(name: str, cells: tuple[Cell, ...] | None = None, **changes: Any) -> Unit:
    facts: dict[str, Any] = {
        "id": name,
        "checkpoint": checkpoint(),
        "cells": cells or (cell(f"{name}-cell"),),
        "model": {},
        "task": {},
        "corpus": None,
        "data_fingerprint": "sha256:0",
        "operations": {},
        "allow_unchanged": frozenset(),
        "conditions_attempt": None,
    }
    return Unit(**{**facts, **changes})
