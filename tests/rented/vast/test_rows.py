"""Rows as the market may send them (vast facts §5 "Example rows", §0.6)."""

import pytest

from llmhost.core.errors import Unavailable
from llmhost.providers.market import Instance
from llmhost.providers.vast import rows

OFFER = {
    "id": 32493628, "machine_id": 43973, "host_id": 307092, "num_gpus": 1, "gpu_name": "RTX 4090", "gpu_ram": 24564,
    "gpu_mem_bw": 886.4, "cuda_max_good": 12.8, "driver_version": "570.124.06", "cpu_ram": 64133, "disk_space": 412.6,
    "disk_bw": 3051.2, "inet_up": 812.4, "inet_down": 903.1, "inet_up_cost": 0.003, "inet_down_cost": 0.002,
    "direct_port_count": 100, "dph_base": 0.3467, "dph_total": 0.3634, "storage_cost": 0.2, "reliability2": 0.9971,
    "verification": "verified", "hosting_type": 0, "external": None, "static_ip": False, "geolocation": "Sweden, SE",
    "rentable": True, "rented": False, "is_bid": False, "duration": 1760530.6,
}  # fmt: skip
INSTANCE = {
    "id": 33402296, "machine_id": 43973, "host_id": 307092, "actual_status": "running", "intended_status": "running",
    "cur_state": "running", "next_state": "running", "status_msg": "success, running x/ssh\n", "label": "llmhost/1/a",
    "image_uuid": "vastai/base-image", "extra_env": [["LLMHOST_CLAIM", "llmhost/1/b"]], "num_gpus": 1, "gpu_ram": 24564,
    "gpu_name": "RTX 4090", "disk_space": 60.0, "ssh_host": "ssh3.vast.ai", "ssh_port": 12296,
    "machine_dir_ssh_port": 51199, "public_ipaddr": "203.0.113.42\n",
    "ports": {"22/tcp": [{"HostIp": "0.0.0.0", "HostPort": "30022"}, {"HostIp": "::", "HostPort": "30022"}]},
    "start_date": 1795245139.2, "end_date": 1893456000.0, "dph_base": 0.3467, "dph_total": 0.3634, "storage_cost": 0.2,
}  # fmt: skip


def test_an_offer_is_read_and_priced_for_the_disk():
    found = rows.offer(OFFER, 60.0)
    assert (found.id, found.machine_id, found.gpu, found.gpus, found.vram_mb) == (32493628, 43973, "RTX 4090", 1, 24564)
    assert found.price_usd_per_hour == pytest.approx(0.3467 + 60 * 0.2 / 720)
    assert (found.region, found.verified, found.datacenter, found.reliability) == ("SE", True, False, 0.9971)
    assert (found.down_usd_per_gb, found.up_usd_per_gb, found.memory_gb_per_s) == (0.002, 0.003, 886.4)


def test_numbers_may_come_as_texts():
    texts = {key: str(value) if isinstance(value, float | int) else value for key, value in OFFER.items()}
    assert rows.offer(texts | {"rentable": "true", "rented": "false"}, 60.0) == rows.offer(OFFER, 60.0)


@pytest.mark.parametrize(("total", "price"), [(0.3634, 0.36337), (0.5, 0.5), (0.2, 0.36337), (None, 0.36337)])
def test_where_two_prices_differ_the_dearer_one_is_told(total, price):
    assert rows.offer(OFFER | {"dph_total": total}, 60.0).price_usd_per_hour == pytest.approx(price, abs=1e-4)


def test_without_a_base_price_it_is_what_the_disk_leaves():
    found = rows.offer(OFFER | {"dph_base": None}, 60.0)
    assert (found.gpu_usd_per_hour, found.price_usd_per_hour) == (
        pytest.approx(0.34673, abs=1e-4),
        pytest.approx(0.3634),
    )


@pytest.mark.parametrize(
    "change",
    [{"id": None}, {"machine_id": "x"}, {"gpu_name": ""}, {"dph_base": None, "dph_total": None}, {"dph_base": -1}],
)
def test_an_offer_that_could_not_be_rented_or_paid_for_is_none(change):
    assert rows.offer(OFFER | change, 60.0) is None


@pytest.mark.parametrize("row", [None, 7, "x", [], {}])
def test_what_is_no_row_is_no_offer(row):
    assert rows.offer(row, 60.0) is None


@pytest.mark.parametrize("name", sorted(set(OFFER) - {"id", "machine_id", "gpu_name"}))
def test_no_odd_field_of_an_offer_is_a_crash(name):
    for odd in (None, "", "odd", [], {}, float("nan"), True):
        assert rows.offer(OFFER | {name: odd}, 60.0).id == 32493628


@pytest.mark.parametrize(
    ("place", "region"), [("Sweden, SE", "SE"), (", us", "US"), ("SE", "SE"), ("Europe", "Europe"), (None, "")]
)
def test_a_region_is_its_country(place, region):
    assert rows.region(place) == region


def test_an_instance_is_read():
    found = rows.instance(INSTANCE)
    assert (found.id, found.label, found.claim) == (33402296, "llmhost/1/a", "llmhost/1/b")
    assert (found.direct, found.proxy) == (("203.0.113.42", 30022), ("ssh3.vast.ai", 12296))
    assert (found.actual, found.intended, found.current, found.next) == ("running",) * 4
    assert (found.message, found.price_usd_per_hour, found.started_at) == (
        "success, running x/ssh",
        0.3634,
        1795245139.2,
    )
    assert Instance.from_dict(found.as_dict()) == found


@pytest.mark.parametrize("name", sorted(set(INSTANCE) - {"id"}))
def test_an_instance_with_an_odd_field_is_kept(name):
    for odd in (None, "", "odd\n", [], {}, [8080, 8081], [[1]], {"22/tcp": None}, {"22/tcp": [7]}, -1, True):
        found = rows.instance(INSTANCE | {name: odd})
        assert found.id == 33402296
        assert name == "label" or found.label == "llmhost/1/a"


def test_an_instance_of_which_only_the_id_is_left_is_kept():
    assert rows.instance({"id": "33402296"}) == Instance(33402296)


@pytest.mark.parametrize("row", [{}, {"id": None}, {"id": "x"}, {"id": True}, None, [], 33402296])
def test_an_instance_without_an_id_is_no_list(row):
    with pytest.raises(Unavailable):
        rows.instance(row)


@pytest.mark.parametrize(
    ("environment", "claim"),
    [
        ([["A", "1"], ["LLMHOST_CLAIM", "mine"]], "mine"),
        ({"LLMHOST_CLAIM": "mine"}, "mine"),
        ([["LLMHOST_CLAIM"], "LLMHOST_CLAIM", None], None),
        ([["LLMHOST_CLAIM", None]], None),
        (None, None),
        ("-e LLMHOST_CLAIM=mine", "mine"),
        ("-e A=1 -e LLMHOST_CLAIM='mine/1' -p 1:1", "mine/1"),
        (["A=1", "LLMHOST_CLAIM=mine"], "mine"),
        ("-e NOT_LLMHOST_CLAIM=yours", None),
    ],
)
def test_the_claim_is_found_in_every_shape(environment, claim):
    assert rows.claim(environment) == claim


@pytest.mark.parametrize(
    "ports", [None, [8080, 8081], {}, {"22/tcp": []}, {"22/tcp": [{"HostPort": "0"}]}, {"80/tcp": [{"HostPort": 1}]}]
)
def test_without_a_port_there_is_no_direct_way_in(ports):
    found = rows.instance(INSTANCE | {"ports": ports})
    assert (found.direct, found.proxy) == (None, ("ssh3.vast.ai", 12296))
