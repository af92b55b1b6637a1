"""Telling somebody, unasked: a webhook at each change between well and failing, and a ping after each whole cycle."""
