"""Headers that only llmhost's own servers say to each other.

A gateway marks its requests with GATEWAY_HEADER. The node then tells every failure by an `error` event that carries the `status` and the
`retry_after` (it need not hang up: the gateway knows what its own client needs), leaves joining equal requests to the gateway, and names
in SERVED_HEADER the model that answers, so that an answer is never kept under another model's key. REFUSED_HEADER tells a server's own
refusal (a wrong token, a foreign Host) from an error that is part of an answer.
"""

GATEWAY_HEADER = "x-llmhost-gateway"
SERVED_HEADER = "x-llmhost-served"
REFUSED_HEADER = "x-llmhost-refused"
ESTIMATE_HEADER = "x-llmhost-estimate"
