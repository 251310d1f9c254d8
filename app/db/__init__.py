"""PostgreSQL: statements, schema and the one facade everything else goes through."""
