"""A marketplace and an installation that rents there, as far as booting is concerned."""

from __future__ import annotations

import contextlib
import getpass
import threading
from datetime import UTC, datetime

from llmhost.core.ledger import Ledger
from llmhost.core.rentals import Rental
from llmhost.fleet.installation import alias_of, installation_id
from llmhost.fleet.rented.access_key import ready_key
from llmhost.fleet.rented.boot import BootDesk, Booted, BootFailed, boot
from llmhost.fleet.rented.watchtower import Watchtower
from llmhost.fleet.visit import Visits
from llmhost.providers.vast.market import open_market
from tests.marketplace.conftest import Api
from tests.support.system import wait_until
from tests.support.told import Told

# What the template does, as far as it matters here: the host key is told, and the public key let in.
ONSTART = """
echo "LLMHOST-HOSTKEY $(cat "$LLMHOST_ROOT/etc/ssh/ssh_host_ed25519_key.pub")"
echo "the machine's own words; key $CONTAINER_API_KEY"
"""
# Everything that takes its time, many times as fast; the market's own times are shortened by its `pace`.
QUICK = {
    "vast_pace": 0.01,
    "vast_poll_s": 0.15,
    "vast_settle_s": 0.5,
    "vast_stall_s": 30.0,
    "vast_unpack_stall_s": 40.0,
    "vast_boot_s": 60.0,
    "vast_ssh_s": 30.0,
    "vast_offline_s": 2.0,
}


class Shop:
    """`desk` is what boots; `rent` gives a rental that bills."""

    def __init__(self, server, place) -> None:
        self.server, self.place = server, place
        place.environ |= {"VAST_URL": server.url, "VAST_API_KEY": server.key}
        place.paths.create()
        self.ledger = Ledger.open(place.paths.ledger_file)
        self.told = Told()
        self._number = 0
        self.use()

    def use(self, **settings) -> None:
        """From now on with these settings."""
        found = self.place.settings(**{"provider": "vast", "vast_ssh_user": getpass.getuser(), **QUICK, **settings})
        self.market = open_market(found)
        tower = Watchtower(self.market, found.vast_poll_s)
        visits = Visits(found, self.place.paths)
        self.desk = BootDesk(self.market, self.ledger, found, self.place.paths, tower, visits, threading.Event())

    @property
    def control(self):
        return self.server.control

    def rent(self, scenario="happy_warm", **body) -> Rental:
        """An instance whose life goes like that, in the ledger."""
        self._number += 1
        label = f"llmhost/1/{'0' * 32}/default/{self._number:012x}/1"
        self.control.plan(scenario)
        with Api(self.server) as api:
            instance_id = api.rent(label=label, **{"onstart": ONSTART, **body})
        instance = self.control.instance(instance_id)
        rental = Rental(
            label,
            "default",
            f"n{self._number}",
            "intent",
            self.stamp(),
            offer_id=instance.offer.id,
            machine_id=instance.offer.fields["machine_id"],
            host_id=instance.offer.fields["host_id"],
            gpu=instance.offer.fields["gpu_name"],
            price_usd_per_hour=0.36,
        )
        self.ledger.rentals.add(rental)
        return self.ledger.rentals.move(label, "rented", instance_id=instance_id, rented_at=self.stamp())

    def stamp(self) -> str:
        return datetime.now(UTC).isoformat(timespec="milliseconds")

    def alias(self, number) -> str:
        """What the node of the so manieth rental is called where its host key is pinned."""
        return alias_of(installation_id(self.place.paths), "default", f"n{number}")

    def ready_key(self) -> str:
        return ready_key(self.market, self.place.paths, self.told)

    def running(self, rental) -> None:
        """Wait until the instance runs, so that it can be hurt."""
        instance = self.control.instance(rental.instance_id)
        wait_until(lambda: instance.status["actual_status"] == "running", "the instance to run", 30)

    def boot(self, rental, **more) -> Booted:
        return boot(rental, self.desk, self.told, **more)

    def fails(self, rental) -> BootFailed:
        """How its boot fails."""
        try:
            self.boot(rental)
        except BootFailed as error:
            return error
        raise AssertionError("it booted")

    def kept(self, rental) -> Rental:
        found = self.ledger.rentals.get(rental.label)
        assert found is not None
        return found

    def note(self, rental):
        return self.ledger.rentals.machines().get(rental.machine_id)

    @contextlib.contextmanager
    def booting(self, rental):
        """Boots in a thread; the list gets what comes of it."""
        ended: list[object] = []

        def run() -> None:
            try:
                ended.append(self.boot(rental))
            except BaseException as error:  # noqa: BLE001 - it is looked at by the test
                ended.append(error)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        yield ended
        thread.join(40)
        assert not thread.is_alive()

    def close(self) -> None:
        self.desk.stop.set()
        self.desk.visits.close()
        self.ledger.close()
