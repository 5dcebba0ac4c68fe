"""A store behind an endpoint that fails every tenth request."""

from faults.checking import assert_undisturbed
from faults.flaky_endpoint import FlakyEndpoint
from faults.sweeps import Driver
from object_stores import s3_server

import sweeper


def test_every_tenth_request_may_fail(job, reference, tmp_path):
    with s3_server() as server, FlakyEndpoint(f"127.0.0.1:{server.port}") as flaky:
        straight = server.uri("bucket", "sweep")
        through = straight.replace(str(server.port), flaky.address.rpartition(":")[2])
        sweep = job(seeds=2, store=through)
        driver = Driver(sweep, tmp_path)
        assert driver.wait() == 0, driver.output
        assert flaky.requests >= 100
        assert all(count > 0 for count in flaky.failed.values()), flaky.failed
        run = sweeper.open_run(sweep.name, straight)
        assert_undisturbed(run, reference)
        assert (run.table("cells")["cell_attempt"] == 1).all()
