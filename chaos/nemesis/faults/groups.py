"""Consumer groups as the broker describes them."""

from __future__ import annotations

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

TIMEOUT_S = 10.0


def members(bootstrap: str, group: str) -> set[str]:
    """Client ids of the members, each as it named itself (aiokafka appends nothing to ours).

    Asks again after an error of the broker up to its timeout; raises KafkaException then.
    """
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    asked = admin.describe_consumer_groups([group], request_timeout=TIMEOUT_S)
    described = asked[group].result(TIMEOUT_S)
    return {member.client_id for member in described.members}


__all__ = ["KafkaException", "members"]
