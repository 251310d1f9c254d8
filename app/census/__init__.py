"""The census: what Kafka and PostgreSQL say of the whole platform, whoever lives.

Reading only. It guarantees bounded questions and says when it could not get an answer; it does not
guarantee that both were read at the same moment.
"""
