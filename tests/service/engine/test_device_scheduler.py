"""Who has the device: small calls first, large ones never starved, and nobody's answer depends on who else is there."""

import threading
import time
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from service.engine.device_scheduler import DeviceScheduler


def together(*works: Callable[[], None]) -> None:
    threads = [threading.Thread(target=work) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()


def test_one_pass_at_a_time() -> None:
    scheduler, running, most = DeviceScheduler(), 0, 0

    def run(patches: Tensor) -> Tensor:
        nonlocal running, most
        running += 1
        most = max(most, running)
        time.sleep(0.01)
        running -= 1
        return patches

    gated = scheduler.schedule(run)
    together(*[lambda: [gated(torch.zeros(1)) for _ in range(5)] and None for _ in range(4)])  # type: ignore[func-rescheduler-value]
    assert most == 1


def test_a_small_call_waits_for_one_pass_alone() -> None:
    scheduler, order = DeviceScheduler(), []
    started = threading.Event()

    def run(patches: Tensor) -> Tensor:
        order.append(int(patches))
        started.set()
        time.sleep(0.05)
        return patches

    gated = scheduler.schedule(run)

    def large() -> None:
        for number in range(6):
            gated(torch.tensor([number]))

    def small() -> None:
        started.wait(5)
        with scheduler.direct_call("one"):
            gated(torch.tensor([100]))

    together(large, large, small)
    assert order.index(100) <= 2


def test_one_who_sends_many_doesnt_keep_the_others_waiting() -> None:
    scheduler, order, begun = DeviceScheduler(), [], threading.Event()

    def run(patches: Tensor) -> Tensor:
        order.append(int(patches))
        begun.set()
        time.sleep(0.05)
        return patches

    gated = scheduler.schedule(run)

    def many() -> None:
        with scheduler.direct_call("many"):
            for _ in range(3):
                gated(torch.tensor([0]))

    def few(number: int) -> None:
        begun.wait(5)
        with scheduler.direct_call(f"few {number}"):
            for _ in range(2):
                gated(torch.tensor([number]))

    together(*[many] * 8, lambda: few(1), lambda: few(2))
    assert sorted(order) == [0] * 24 + [1, 1, 2, 2]
    assert order.index(1) <= 3
    assert order.index(2) <= 3
    last = max(place for place, number in enumerate(order) if number)
    assert last <= 7, "each owner has every third turn, though one has eight calls that wait"


def test_large_ones_arent_starved() -> None:
    scheduler, large_done = DeviceScheduler(), threading.Event()

    def run(patches: Tensor) -> Tensor:
        time.sleep(0.01)
        return patches

    gated = scheduler.schedule(run)
    passes = 0

    def large() -> None:
        for _ in range(10):
            gated(torch.zeros(1))
        large_done.set()

    def small() -> None:
        nonlocal passes
        with scheduler.direct_call("one"):
            while not large_done.is_set():
                gated(torch.zeros(1))
                passes += 1
                assert passes < 5000

    together(large, small, small)
    assert passes >= 10  # and the small ones weren't either


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 3), min_size=1, max_size=5))
def test_answers_dont_depend_on_who_shares_the_batch(sizes: list[int]) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(2, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 3, 3, padding=1)).eval()
    patches = [torch.randn(size, 2, 16, 16) for size in sizes]

    def run(batch: Tensor) -> Tensor:
        with torch.inference_mode():
            time.sleep(0.002)
            found: Tensor = network(batch)
            return found

    alone = [DeviceScheduler(joins=True).schedule(run, batch_size=4)(each) for each in patches]
    scheduler, found = DeviceScheduler(joins=True), [torch.empty(0)] * len(sizes)
    gated = scheduler.schedule(run, batch_size=4)

    def ask(number: int) -> None:
        found[number] = gated(patches[number])

    together(*[lambda number=number: ask(number) for number in range(len(sizes))])  # type: ignore[misc]
    for one, other in zip(alone, found, strict=True):
        assert torch.equal(one, other)


def test_batches_are_shared_and_always_full() -> None:
    scheduler, batches, first = DeviceScheduler(joins=True), [], threading.Event()

    def run(patches: Tensor) -> Tensor:
        batches.append(len(patches))
        first.set()
        time.sleep(0.1)
        return patches

    gated = scheduler.schedule(run, batch_size=4)

    def later() -> None:
        first.wait(5)
        gated(torch.ones(1, 1))

    together(lambda: gated(torch.ones(1, 1)) and None, later, later, later)  # type: ignore[func-rescheduler-value]
    assert batches == [4, 4]


def test_an_error_is_its_own_ones() -> None:
    scheduler = DeviceScheduler()

    def run(patches: Tensor) -> Tensor:
        if float(patches) < 0:
            raise ValueError("less than nothing")
        return patches

    gated = scheduler.schedule(run)
    with pytest.raises(ValueError, match="less than nothing"):
        gated(torch.tensor([-1.0]))
    assert float(gated(torch.tensor([1.0]))) == 1
