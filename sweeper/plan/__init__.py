"""From a job to cells and units of work. Pure Python: no model, no Ray."""
