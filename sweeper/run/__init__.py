"""Running a sweep: the queue, the driver, the executors and the worker."""
