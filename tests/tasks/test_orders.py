"""A stage in the middle of its items heeds the operator."""

import pytest
from prefect.client.schemas.objects import State, StateType
from prefect.context import FlowRunContext
from prefect.exceptions import Pause

from tasks.orders import Orders
from tasks.workers.items import run_items


def _name(item):
    return item


@pytest.fixture
def run():
    """The context of a flow run that no server knows."""
    with FlowRunContext.model_construct(flow_run=None, flow_run_suspension_request=_request()) as context:
        yield context


def _request():
    return FlowRunContext.model_fields["flow_run_suspension_request"].default_factory()


def test_outside_of_a_flow_run_there_are_no_orders():
    Orders().heed()


def test_after_suspension_no_further_item_is_started(workers, run):
    started = []
    with pytest.raises(Pause):
        for item, _ in run_items(_name, list(range(50)), label="CPU", name="named", window=1, advance=int):
            started.append(item)
            if len(started) == 3:
                run.flow_run_suspension_request.mark_requested(State(type=StateType.PAUSED, name="Suspended"))
    assert started == [0, 1, 2]


def test_a_run_without_orders_goes_through_all_items(workers, run):
    assert sorted(item for item, _ in run_items(_name, list(range(5)), label="CPU", name="named", advance=int)) == list(
        range(5)
    )
