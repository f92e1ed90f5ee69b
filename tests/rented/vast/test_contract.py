from tests.rented.market_contract import MarketContract


class TestVastMarket(MarketContract):
    """Over the stand-in marketplace, with its rate limits on."""
