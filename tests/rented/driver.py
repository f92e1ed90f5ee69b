"""A process that rents, or rents and ends, and stands still at one step: `python -m tests.rented.driver ACTION STEP`.

At the step it prints `at STEP` and waits for a line. In the end it prints `done`, or the error's code. Who rents, and where, comes from
the environment, as for any command.
"""

from __future__ import annotations

import sys

from llmhost.core.errors import LlmhostError
from llmhost.core.ledger import Ledger
from llmhost.core.paths import Paths
from llmhost.core.settings import load_settings
from llmhost.fleet.installation import installation_id
from llmhost.fleet.rented.ending import end
from llmhost.fleet.rented.timing import RentTiming
from llmhost.fleet.rented.transaction import Deal, RentDesk, rent
from llmhost.providers.market import OfferWish, Order
from llmhost.providers.vast.market import open_market


class Stepping:
    """Another object, its methods standing still before or after they did their work: once, at the wanted step."""

    def __init__(self, inner, wanted, names):
        self._inner, self._wanted, self._names = inner, wanted, names

    def __getattr__(self, name):
        attribute = getattr(self._inner, name)
        if name not in self._names:
            return attribute

        def stepped(*args, **fields):
            step = f"{name}-{args[1]}" if name == "move" else name
            self._stand_still(f"{step}:before")
            result = attribute(*args, **fields)
            self._stand_still(f"{step}:after")
            return result

        return stepped

    def _stand_still(self, step):
        if step == self._wanted:
            self._wanted = ""
            print(f"at {step}", flush=True)
            sys.stdin.readline()


class Notes:
    def phase(self, code, text):
        """Not told."""

    def transfer(self, code, text, done, total):
        """Not told."""

    def note(self, text):
        print(f"note {text}", flush=True)


def main(action, step):
    paths = Paths.from_environment()
    settings = load_settings()
    paths.create()
    market = open_market(settings)
    offer = market.offers(OfferWish(("RTX 4090",), 60.0, 4.0))[0]
    with Ledger.open(paths.ledger_file) as ledger:
        ledger.rentals = Stepping(ledger.rentals, step, ("add", "move"))
        stepping = Stepping(market, step, ("rent", "instances", "destroy", "stop"))
        desk = RentDesk(stepping, ledger, installation_id(paths), RentTiming.of(settings), Notes())
        rental = rent(Deal(offer, Order("", "image:1", 60.0, ""), "default", "n1", "a1b2c3d4e5f6"), desk)
        if action == "end":
            end([rental], desk, "asked")
    print("done", flush=True)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except LlmhostError as error:
        print(f"error {error.code}", flush=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
        sys.exit(130)
