"""What every implementation of the seam `providers.market.Market` must do, whatever is behind it.

A test class inherits `MarketContract` and has the fixtures `market` (the implementation), `wish` (an OfferWish that something fits),
`order` (an Order with a label nothing else has) and `settled` (called with a function, waits until it is true).
"""

from __future__ import annotations

from dataclasses import replace

from llmhost.providers.market import Rented

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGk0b9Wl1m5Q3sV0a7g4rOeKz2tQdJ9nq6bYc8xUeHfT contract"


class MarketContract:
    def test_what_is_rented_is_listed_with_its_label_until_it_is_destroyed(self, market, wish, order, settled):
        offer = market.offers(wish)[0]
        rented = market.rent(offer, order)
        assert isinstance(rented, Rented)
        settled(lambda: [each.id for each in market.instances()] == [rented.instance_id])
        found = market.instances()[0]
        assert (found.label, found.claim, found.machine_id) == (order.label, order.label, offer.machine_id)
        assert abs(found.price_usd_per_hour - offer.price_usd_per_hour) < 0.001
        market.destroy(rented.instance_id)
        settled(lambda: market.instances() == [])

    def test_destroying_and_stopping_what_is_gone_is_no_error(self, market, wish, order, settled):
        rented = market.rent(market.offers(wish)[0], order)
        for _ in range(2):
            market.destroy(rented.instance_id)
        settled(lambda: market.instances() == [])
        market.stop(rented.instance_id)
        market.destroy(4_711)

    def test_two_rents_are_two_instances(self, market, wish, order, settled):
        first, second = market.offers(wish)[:2]
        other = replace(order, label=order.label + "2")
        ids = {market.rent(first, order).instance_id, market.rent(second, other).instance_id}
        assert len(ids) == 2
        settled(lambda: {each.id for each in market.instances()} == ids)
        for each in ids:
            market.destroy(each)

    def test_an_offer_fits_what_every_search_asks(self, market, wish):
        offers = market.offers(wish)
        assert offers
        assert len({each.id for each in offers}) == len(offers)
        for each in offers:
            assert (each.gpu in wish.gpus, each.gpus, each.rentable, each.rented) == (True, 1, True, False)
            disk = wish.disk_gb * each.disk_usd_per_gb_month / 720
            assert each.price_usd_per_hour >= each.gpu_usd_per_hour + disk - 1e-9

    def test_keys_may_be_given_twice(self, market, wish, order):
        rented = market.rent(market.offers(wish)[0], order)
        for _ in range(2):
            market.register_key(KEY)
            market.attach_key(rented.instance_id, KEY)
        market.destroy(rented.instance_id)

    def test_the_account_says_what_can_be_spent(self, market):
        assert market.account().credit_usd > 0
