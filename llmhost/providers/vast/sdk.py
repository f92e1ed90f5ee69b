"""The vendor's client, reduced to what is safe to rent with. Importing this imports `vastai` (0.5 s): only `client` does, when asked.

The vendor's own sending repeats a create that may have rented (vast facts §0.1), lets a `~/.netrc` replace the key (§1.3), and turns a
redirected write into a GET (§1.3). Here it is one request, logged in with the key and nothing else, and a redirected write comes back as
the redirect that it is.
"""

from __future__ import annotations

from typing import Any

import requests  # the vendor's package is built on it
from vastai.api.client import VastClient, VastSession, server_url_default
from vastai.api.instances import build_create_instance_payload

DEFAULT_URL = str(server_url_default)


class OneRequest(VastClient):  # type: ignore[misc]  # the package carries no types
    """`get`, `post`, `put` and `delete` send one request each and return the response, whatever its status.

    Raises what `requests` does (RequestException, or ValueError for an address that is none).
    """

    def __init__(self, key: str, url: str, timeout_s: float) -> None:
        # `retry` counts attempts; it is what a later version would go by if it sent in another way.
        super().__init__(key, url, retry=1, timeout=timeout_s)

    def _request(
        self, method: str, url: str, headers: dict[str, str], json_data: Any = None, timeout: float | None = None
    ) -> requests.Response:
        request = requests.Request(method, url, headers=headers, json=json_data, auth=_as_it_is)
        with VastSession(self.server_url) as session:
            prepared = session.prepare_request(request)
            # What the vendor leaves out: the environment's certificates (REQUESTS_CA_BUNDLE), as its proxies.
            options = session.merge_environment_settings(prepared.url, {}, False, None, None)
            limit = timeout or self.timeout
            response: requests.Response = session.send(
                prepared, timeout=limit, allow_redirects=method == "GET", **options
            )
            return response


def build_payload(**wish: Any) -> dict[str, Any]:
    """The body of a create as the vendor's client builds it; the arguments are its own."""
    return dict(build_create_instance_payload(**wish))


def fetch(url: str, timeout_s: float) -> requests.Response:
    """GET a foreign address, with no login of any kind."""
    with requests.Session() as session:
        prepared = session.prepare_request(requests.Request("GET", url, auth=_as_it_is))
        return session.send(prepared, timeout=timeout_s)


def _as_it_is(prepared: requests.PreparedRequest) -> requests.PreparedRequest:
    """A login that adds nothing: with one given, neither `~/.netrc` nor the address is searched for another."""
    return prepared
