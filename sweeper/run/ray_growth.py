"""Nodes that are not there yet: asking a cluster's autoscaler for them.

Ray is imported inside the functions: ``ray_executor`` sets what it reads when it is imported.
"""

import time

from sweeper.run.placement import Asked

STEP_SECONDS = 1.0
"""Time between looks at the clock: between them Ctrl-C has to wait."""


def wait_for_room(asked: Asked) -> bool:
    """Ask for room for all workers in the cluster that this process has joined, and wait for it.

    Whoever asks by a placement group asks no more once its process is gone, however it ended; what
    ``request_resources`` has asked for would keep nodes up until somebody else asks for less.

    Args:
        asked: with numbers of workers and of GPUs.

    Returns:
        Whether there was room for all at once before the time was over.
    """
    from ray.util.placement_group import placement_group, remove_placement_group

    assert asked.workers is not None
    assert asked.gpus is not None
    bundle = {"CPU": float(asked.cpus)}
    if asked.gpus:
        bundle["GPU"] = asked.gpus
    group = placement_group(
        [bundle] * asked.workers,
        strategy="PACK",
        bundle_label_selector=[dict(asked.labels)] * asked.workers,
    )
    deadline = time.monotonic() + asked.wait_seconds
    try:
        while not group.wait(STEP_SECONDS):
            if time.monotonic() > deadline:
                return False
        return True
    finally:
        remove_placement_group(group)
