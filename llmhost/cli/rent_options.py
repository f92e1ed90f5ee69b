"""The options of `up` and `offers` about what is rented, each declared once."""

from __future__ import annotations

from typing import Annotated

import typer

Gpu = Annotated[str | None, typer.Option("--gpu", help="The card: RTX_4090, H100, A100_SXM4, … [default: RTX_4090]")]
MaxPrice = Annotated[
    float | None,
    typer.Option("--max-price", metavar="USD", help="The most an hour of one machine may cost, disk included."),
]
Budget = Annotated[
    float | None, typer.Option("--budget", metavar="USD", help="The most the fleet may cost in all; it ends there.")
]
Lease = Annotated[
    str | None,
    typer.Option(
        "--lease",
        metavar="TIME",
        help="When it ends at the latest, and the hours prices are for: 4h, 2d, none. [default: 4h]",
    ),
]
Idle = Annotated[
    str | None,
    typer.Option("--idle", metavar="TIME", help="It ends after so long without a request; or off. [default: 30m]"),
]
Region = Annotated[
    str | None,
    typer.Option("--region", metavar="CODES", help="Countries by their two letters: US,SE; any. [default: any]"),
]
Trust = Annotated[str | None, typer.Option("--trust", help="any, verified or datacenter. [default: verified]")]
MinReliability = Annotated[
    float | None,
    typer.Option("--min-reliability", metavar="0-1", help="The machine's record. [default: 0.98, else 0.95]"),
]
Disk = Annotated[
    float | None, typer.Option("--disk", metavar="GB", help="The disk to rent. [default: the model and 25 GB]")
]
Image = Annotated[
    str | None, typer.Option("--image", metavar="NAME", help="The container image. [default: the vendor's]")
]
OfferId = Annotated[int | None, typer.Option("--offer", metavar="ID", help="This offer of `llmhost offers`, or none.")]
