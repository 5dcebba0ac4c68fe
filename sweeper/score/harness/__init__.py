"""lm-evaluation-harness, both ways: its tasks in a sweep, and this project's models in it.

The harness is imported by the modules in here alone, and those are imported when a task is used:
it takes a second to import and several to find its tasks, and scoring by its rules needs torch.
"""
