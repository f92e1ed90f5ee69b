"""An instance as the marketplace shows it (vast facts §1.5 "Instance row", and the examples of §5)."""

from __future__ import annotations

from typing import Any

from tests.support.marketplace.instance import Instance
from tests.support.marketplace.offers import costs

# Columns of the stored contract; the list can be filtered by these and by no computed one (vast facts §1.5).
STORED = (
    "id",
    "label",
    "actual_status",
    "intended_status",
    "cur_state",
    "next_state",
    "gpu_name",
    "verification",
    "machine_id",
    "host_id",
    "image_uuid",
    "start_date",
    "end_date",
    "is_bid",
    "geolocation",
    "template_id",
    "template_hash_id",
)
_FROM_OFFER = (
    "avail_vol_ask_id",
    "bundle_id",
    "bw_nvlink",
    "cpu_arch",
    "cpu_cores",
    "cpu_cores_effective",
    "cpu_name",
    "cpu_ram",
    "credit_discount_max",
    "cuda_max_good",
    "direct_port_count",
    "disk_bw",
    "disk_name",
    "dlperf",
    "driver_version",
    "geolocation",
    "gpu_arch",
    "gpu_frac",
    "gpu_lanes",
    "gpu_mem_bw",
    "gpu_name",
    "gpu_ram",
    "host_id",
    "hosting_type",
    "inet_down",
    "inet_down_cost",
    "inet_up",
    "inet_up_cost",
    "internet_down_cost_per_tb",
    "internet_up_cost_per_tb",
    "logo",
    "machine_id",
    "mobo_name",
    "num_gpus",
    "os_version",
    "pci_gen",
    "pcie_bw",
    "reliability2",
    "static_ip",
    "storage_cost",
    "time_remaining",
    "time_remaining_isbid",
    "total_flops",
    "verification",
    "webpage",
)


def row(instance: Instance, now: float, skew_s: float) -> dict[str, Any]:
    """Every column. `skew_s` is what the marketplace's clock is off by."""
    shown: dict[str, Any] = {"id": instance.id, **instance.status}
    shown |= {key: instance.offer.fields[key] for key in _FROM_OFFER}
    shown |= _contract(instance, now, skew_s) | _way_in(instance) | _figures(instance, now)
    return shown | _money(instance, shown)


def _contract(instance: Instance, now: float, skew_s: float) -> dict[str, Any]:
    return {
        "label": instance.label,
        "image_uuid": instance.image,
        "image_args": [],
        "image_runtype": instance.runtype,
        "extra_env": [list(pair) for pair in instance.env],
        "onstart": instance.onstart,
        "jupyter_token": instance.jupyter_token,
        "template_id": None,
        "template_hash_id": None,
        "template_name": None,
        "start_date": instance.created + skew_s,
        "end_date": instance.ends + skew_s,
        "duration": max(0.0, instance.ends - now),
        "is_bid": instance.bid is not None,
        "external": bool(instance.offer.fields["external"]),
        "rentable": True,
        "volume_info": [],
        "country_code": None,
    }


def _way_in(instance: Instance) -> dict[str, Any]:
    """`ports` are there while the container runs, else null; the address has a line end on the real one too (vast facts §1.5)."""
    shown = instance.up and not instance.ports_hidden and "direc" in instance.runtype
    address, port = instance.machine.direct
    host, proxy_port = instance.machine.proxy
    both = [{"HostIp": ip, "HostPort": str(port)} for ip in ("0.0.0.0", "::")]
    return {
        "ssh_host": host,
        "ssh_idx": "3",
        "ssh_port": proxy_port,
        "machine_dir_ssh_port": 51_199,
        "public_ipaddr": address + "\n",
        "local_ipaddrs": "192.168.1.5 172.17.0.1 \n",
        "ports": {"22/tcp": both} if shown else None,
        "direct_port_start": port if shown else -1,
        "direct_port_end": port if shown else -1,
    }


def _figures(instance: Instance, now: float) -> dict[str, Any]:
    """What the host's daemon measures, once there is a container."""
    up = instance.up
    return {
        "cpu_util": 0.5 if up else 0.0,
        "disk_space": instance.disk,
        "disk_usage": 4.2 if up else -1,
        "disk_util": 0.1 if up else -1,
        "gpu_temp": 38.9 if up else None,
        "gpu_totalram": instance.offer.fields["gpu_total_ram"],
        "gpu_util": 0.0 if up else None,
        "mem_limit": 62.6 if up else None,
        "mem_usage": 0.4 if up else None,
        "vmem_usage": 0.5 if up else None,
        "uptime_mins": None,
        "client_run_time": max(0.0, now - instance.created),
        "host_run_time": 2_592_000.0,
    }


def _money(instance: Instance, shown: dict[str, Any]) -> dict[str, Any]:
    price = instance.price()
    total = price["dph_total"]
    return {
        **price,
        "min_bid": instance.offer.min_bid,
        "credit_balance": None,
        "credit_discount": None,
        "dlperf_per_dphtotal": shown["dlperf"] / total,
        "flops_per_dphtotal": shown["total_flops"] / total,
        "vram_costperhour": price["dph_base"] / instance.offer.fields["gpu_total_ram"],
        "score": shown["dlperf"] / total * shown["reliability2"],
        "search": costs(price),
        "instance": costs(price),
    }
