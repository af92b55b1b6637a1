"""The vendor's integration webhooks: hints of hotels that come and go, each of which a call verifies."""
