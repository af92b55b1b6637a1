"""Connections that are kept in the database."""
