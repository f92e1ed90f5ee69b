"""What is sent with a rent: the image, the disk, and the script that the machine runs at every start of its container."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from llmhost.bootstrap import ollama
from llmhost.bootstrap.install import node_folder
from llmhost.core.guard_files import AFTER_IDLE_PART, AFTER_LEASE_S
from llmhost.core.ollama_environment import serve_environment
from llmhost.core.rentals import Terms
from llmhost.fleet.model_fit import Fit
from llmhost.fleet.rented.ranking import Job, Priced
from llmhost.onstart.render import BootScript, EarlyOllama, render
from llmhost.providers.market import MarketOffer, Order

if TYPE_CHECKING:
    from llmhost.core.settings import Settings

# The vendor's own: most hosts have it already, and it carries sshd (vast facts §4.3).
IMAGE = "vastai/base-image:@vastai-automatic-tag"
_ANY_ADDRESS = "127.0.0.1:11434"  # the script sets its own


def order_for(
    offer: MarketOffer,
    fit: Fit | None,
    model: str | None,
    *,
    alias: str,
    terms: Terms,
    key: str,
    settings: Settings,
    disk_gb: float,
) -> Order:
    """The order for one machine; its label is set when it is sent. `key` is the public half of what logs in, `fit` None = a rehearsal.

    Raises LlmhostError (`onstart_too_long`).
    """
    script = render(
        BootScript(
            node_folder=node_folder(alias),
            public_key=key,
            api_url=api_url(settings),
            contact_s=round(settings.vast_contact_s),
            lease_ends_at=_own_end(terms.lease_ends_at),
            idle_s=_own_idle_s(terms.idle_s),
            guard_every_s=max(1, round(settings.vast_guard_every_s)),
            ollama=_early(offer, fit, model, settings) if fit else None,
        )
    )
    return Order("", settings.image or IMAGE, disk_gb, script)


def rental_terms(priced: Priced, job: Job, order: Order) -> dict[str, Any]:
    """What the ledger keeps of the prices (Rental.terms)."""
    offer = priced.offer
    return {
        "disk_gb": order.disk_gb,
        "down_usd_per_gb": offer.down_usd_per_gb,
        "up_usd_per_gb": offer.up_usd_per_gb,
        "disk_usd_per_gb_month": offer.disk_usd_per_gb_month,
        "gpu_usd_per_hour": offer.gpu_usd_per_hour,
        "model_gb": job.model_gb,
        "image": order.image,
    }


def api_url(settings: Settings) -> str:
    """Where the machine asks for its own end."""
    from llmhost.providers.vast.client import load

    return str(settings.vast_url or load().DEFAULT_URL).rstrip("/")


def _early(offer: MarketOffer, fit: Fit, model: str | None, settings: Settings) -> EarlyOllama:
    env: Mapping[str, str] = serve_environment(
        _ANY_ADDRESS,
        fit.context,
        has_gpu=True,
        vram_mb=offer.vram_mb,
        memory_mb=offer.memory_mb or None,
        wished=fit.env,
    )
    return EarlyOllama(ollama.VERSION, model, env, settings.ollama_install)


def _own_end(lease_ends_at: str | None) -> int | None:
    return None if lease_ends_at is None else round(datetime.fromisoformat(lease_ends_at).timestamp()) + AFTER_LEASE_S


def _own_idle_s(idle_s: float | None) -> int | None:
    return None if idle_s is None else round(idle_s + min(AFTER_LEASE_S, AFTER_IDLE_PART * idle_s))
