"""The simulator of the Mews Connector API, over real HTTP, held to the digest of its documentation."""
