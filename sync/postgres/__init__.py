"""PostgreSQL: sessions, transactions, errors in this service's words, migrations, and the embedded server."""
