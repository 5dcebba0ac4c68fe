import threading
import time

from sweeper.run.signs import BUSY, LONGER, Sign, Signs, Watch, pulse_seconds, show

PATIENCE = 60


def test_a_sign_survives_being_sent():
    for sign in (Sign(), Sign(3, 1234567, 2, True)):
        assert Sign.parse(sign.dump()) == sign


def test_waiting_is_not_being_busy():
    signs = Signs()
    event = threading.Event()
    event.wait(0.2)
    assert signs.read() == Sign(beats=1, layers=0, busy=0, loading=False)
    begin = time.process_time()
    while time.process_time() - begin < 0.1:
        pass
    signs.layer_computed("module", "inputs", "outputs")
    signs.loading = True
    # However little of the core this process gets, it used far more than it could by waiting.
    assert BUSY < 1
    assert signs.read().layers == 1
    assert signs.read().loading


def test_signs_come_from_a_thread_beside_the_work():
    signs, seen, enough = Signs(), [], threading.Event()

    def send(sign):
        seen.append(sign)
        if len(seen) == 2:
            raise ConnectionError("the head does not answer now")
        if len(seen) >= 4:
            enough.set()

    show(signs, send, 0.001)
    assert enough.wait(PATIENCE)
    assert [sign.beats for sign in seen[:4]] == [1, 2, 3, 4]


def test_no_sign_for_too_long_is_a_hang_and_a_layer_is_a_sign():
    watch = Watch(10.0)
    watch.begin("w", 0.0)
    assert watch.hangs("w", 10.0) is None
    assert watch.hangs("w", 10.1) == "no sign of progress for 10 s"
    for now in range(0, 100, 9):
        watch.see("w", Sign(beats=now, layers=now), now)
        assert watch.hangs("w", now + 9.0) is None
    # The process lives, and that is all.
    watch.see("w", Sign(beats=1000, layers=99), 100.0)
    assert watch.hangs("w", 99 + 10.5) == "no sign of progress for 10 s"


def test_computing_in_vain_is_a_hang_later():
    watch = Watch(10.0)
    watch.begin("w", 0.0)
    for now in range(0, 101, 5):
        watch.see("w", Sign(beats=now, layers=7, busy=now), now)
        assert watch.hangs("w", now) is None
    watch.see("w", Sign(beats=101, layers=7, busy=101), 10.0 * LONGER + 1)
    assert watch.hangs("w", 10.0 * LONGER + 1) == "no layer computed for 101 s"


def test_a_worker_that_loads_may_wait_as_long_as_it_lives():
    watch = Watch(10.0)
    watch.begin("w", 0.0)
    for now in range(0, 101, 5):
        watch.see("w", Sign(beats=now, loading=True), now)
        assert watch.hangs("w", now) is None
    # Stopped while it loads.
    watch.see("w", Sign(beats=100, loading=True), 110.5)
    assert watch.hangs("w", 110.5) is not None


def test_what_came_before_a_unit_does_not_count():
    watch = Watch(10.0)
    watch.begin("w", 0.0)
    watch.see("w", Sign(beats=1, layers=5), 1.0)
    watch.begin("w", 500.0)
    assert watch.hangs("w", 509.0) is None
    # The same sign as before: nothing happened since.
    watch.see("w", Sign(beats=1, layers=5), 509.0)
    assert watch.hangs("w", 511.0) is not None
    watch.forget("w")
    watch.begin("w", 600.0)
    watch.see("w", Sign(), 605.0)
    assert watch.hangs("w", 614.0) is None


def test_signs_are_much_more_frequent_than_hangs():
    assert pulse_seconds(5.0) == 1.0
    assert pulse_seconds(600.0) == 30.0
    assert pulse_seconds(1e9) == 30.0
