"""The learning rate, the average of weights, and when a run validates and ends."""

import copy
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tusz_train.config import OptimizerConfig, ScheduleConfig
from tusz_train.optimisation import Average, learning_rate, make_optimizer, set_learning_rate
from tusz_train.state import Plan, State

LARGEST = OptimizerConfig(lr=1e-3)


@given(total=st.integers(2, 500), share=st.floats(0, 0.9), floor=st.floats(0, 1))
def test_the_rate_rises_then_falls(total: int, share: float, floor: float):
    """The learning rate rises to its largest within the warm-up, then falls to the floor, and is never above or 0."""
    schedule = ScheduleConfig(warmup_share=share, floor=floor)
    rates = [learning_rate(step, total, LARGEST, schedule) for step in range(total)]
    warmup = round(share * total)

    assert rates[: warmup + 1] == sorted(rates[: warmup + 1])
    assert rates[warmup:] == sorted(rates[warmup:], reverse=True)
    assert max(rates) == pytest.approx(1e-3)
    assert min(rates) >= 0
    if warmup < total - 1:
        assert floor * 1e-3 == pytest.approx(rates[-1])


def test_the_rate_may_stay():
    """Without a shape the rate is the largest from the end of the warm-up on; steps of warm-up are counted from 0."""
    schedule = ScheduleConfig(shape="constant", warmup_steps=4)

    assert [0.25, 0.5, 0.75, 1.0, 1.0] == pytest.approx(
        [learning_rate(s, 9, LARGEST, schedule) * 1e3 for s in range(5)]
    )


@pytest.mark.parametrize("name", ["adamw", "radam"])
def test_an_optimiser_decays_weights_apart_from_gradients(name: str):
    """Without gradient, matrices shrink by rate times decay, and biases stay."""
    model = torch.nn.Linear(2, 2)
    before = copy.deepcopy(model.state_dict())
    optimizer = make_optimizer(OptimizerConfig(name=name, lr=0.5, weight_decay=0.1), model)  # type: ignore[arg-type]
    set_learning_rate(optimizer, 0.5)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()

    torch.testing.assert_close(model.weight.data, before["weight"] * 0.95)
    assert torch.equal(before["bias"], model.bias.data)


def test_an_average_follows():
    """The average begins with the weights, forgets them fast at first, then at its own pace; it is never trained."""
    model = torch.nn.BatchNorm1d(1)
    average = Average(model, 0.9)
    weights = average.model.state_dict()
    with torch.no_grad():
        model.weight.fill_(2.0)
    average.update(model, 1)
    assert 1 + 9 / 11 == pytest.approx(float(weights["weight"]))
    for step in range(100, 200):
        before = float(weights["weight"])
        average.update(model, step)
        assert 2 - 0.9 * (2 - before) == pytest.approx(float(average.model.state_dict()["weight"]))

    assert [False, False] == [parameter.requires_grad for parameter in average.model.parameters()]
    assert not average.model.training


# when


@given(st.integers(1, 30), st.integers(1, 4), st.integers(1, 5))
def test_epochs_are_whole(batches: int, accumulation: int, epochs: int):
    """A run of E epochs takes the batches of E epochs, but for those that make no whole step, and validates E times."""
    plan = Plan(max(1, epochs * batches // accumulation), batches, accumulation, None, None)
    state, judged = State(), []
    while not plan.is_over(state):
        state = state.stepped(finite=True)
        if plan.is_judgement_due(state):
            judged.append(plan.epoch(state.step))
            state = state.after(0.5, 0.5)

    assert 0 <= epochs * batches - state.step * accumulation < max(accumulation, 2) or state.step == 1
    assert judged == sorted(judged)
    assert state.is_judged
    if epochs * batches % accumulation == 0 and accumulation <= batches:
        assert list(range(1, epochs + 1)) == judged


def test_the_best_is_the_first_of_equals():
    """A validation is better only if it is above all before; patience counts those since."""
    state, seen = State(), []
    for metric in (0.1, 0.3, 0.3, 0.2):
        state = state.stepped(finite=True).after(metric, 0.5)
        seen.append((state.best_step, state.worse_in_row, state.is_best))

    assert [(1, 0, True), (2, 0, True), (2, 1, False), (2, 2, False)] == seen
    assert state == State.of(state.as_dict())


def test_skipped_steps_are_counted():
    """Skipped steps count in all and in a row; a good one ends the row."""
    state = State()
    told: list[Any] = []
    for finite in (False, False, True, False):
        state = state.stepped(finite=finite)
        told.append((state.step, state.skipped, state.skipped_in_row))

    assert [(1, 1, 1), (2, 2, 2), (3, 2, 0), (4, 3, 1)] == told
