"""The simulator of the Mews Connector API, over real HTTP, held to docs/mews-api.md."""
