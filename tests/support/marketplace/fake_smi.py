"""An `nvidia-smi` that shows the card of the offer, until it is lost."""

from __future__ import annotations

import shlex
from pathlib import Path

from tests.support.marketplace.machine import Boot

_SCRIPT = """#!/bin/sh
if [ -e {lost} ]; then
  echo "Unable to determine the device handle for GPU0000:01:00.0: Unknown Error"
  exit 255
fi
fields= units=" MiB" percent=" %"
for argument in "$@"; do
  case $argument in
    --query-gpu=*) fields=${{argument#*=}} ;;
    *nounits*) units= percent= ;;
  esac
done
if [ -z "$fields" ]; then
  echo "NVIDIA-SMI {driver}  Driver Version: {driver}"
  exit 0
fi
value() {{
  case $1 in
    name|gpu_name) printf '%s' {name} ;;
    memory.total) printf '%s%s' {ram} "$units" ;;
    memory.used) printf '%s%s' 1 "$units" ;;
    memory.free) printf '%s%s' {free} "$units" ;;
    utilization.gpu) printf '%s%s' 0 "$percent" ;;
    driver_version) printf '%s' {driver} ;;
    temperature.gpu) printf '%s' 38 ;;
    *) printf '[N/A]' ;;
  esac
}}
card=0
while [ $card -lt {cards} ]; do
  line=
  for field in $(echo "$fields" | tr ',' ' '); do
    line="$line${{line:+, }}$(value "$field")"
  done
  echo "$line"
  card=$((card + 1))
done
"""


def fake_smi(boot: Boot, lost: Path) -> str:
    """The script; the card is there until the file `lost` is."""
    name = shlex.quote(f"NVIDIA {'GeForce ' if boot.gpu_name.startswith('RTX ') else ''}{boot.gpu_name}")
    places = {"ram": boot.gpu_ram_mb, "free": boot.gpu_ram_mb - 1, "cards": boot.num_gpus, "driver": boot.driver}
    return _SCRIPT.format(lost=shlex.quote(str(lost)), name=name, **places)
