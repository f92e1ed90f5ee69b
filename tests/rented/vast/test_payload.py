import json
from dataclasses import replace

import pytest

from llmhost.core.errors import LlmhostError
from llmhost.providers.vast.create import payload

SECRET = 'pa"ss\\wörd-1234'


def test_the_body_asks_for_a_running_instance_with_sshd_that_carries_its_claim(order):
    body = payload(order)
    assert body["env"] == {"A": "1", "LLMHOST_CLAIM": order.label}
    assert body["label"] == order.label
    assert (body["image"], body["disk"], body["onstart"]) == (order.image, 60.0, "echo hello")
    assert (body["runtype"], body["cancel_unavail"], body["target_state"]) == ("ssh_direc ssh_proxy", True, "running")
    assert (body["price"], body["client_id"]) == (None, "me")
    json.dumps(body)


def test_nothing_in_the_order_can_take_the_claim_away(order):
    assert payload(replace(order, env={"LLMHOST_CLAIM": "x"}))["env"] == {"LLMHOST_CLAIM": order.label}


@pytest.mark.parametrize(
    "change",
    [
        {"label": f"a{SECRET}b"},
        {"image": SECRET},
        {"onstart": f"echo '{SECRET}' > ~/.key\n"},
        {"env": {"KEY": f"x{SECRET}"}},
        {"env": {f"{SECRET}_NAME": "x"}},
    ],
)
def test_an_order_with_a_secret_in_it_is_not_sent(order, change):
    with pytest.raises(LlmhostError) as refused:
        payload(replace(order, **change), ["unrelated-secret", SECRET])
    assert refused.value.code == "secret_in_order"
    assert SECRET not in str(refused.value) + refused.value.hint


def test_an_empty_or_tiny_secret_is_in_everything_and_counts_for_nothing(order):
    assert payload(order, ["", "echo"])["onstart"] == order.onstart


def test_a_start_script_that_would_never_start_is_not_sent(order):
    assert payload(replace(order, onstart="x" * 4_000))
    with pytest.raises(LlmhostError) as refused:
        payload(replace(order, onstart="ü" * 2_001))
    assert refused.value.code == "onstart_too_long"
