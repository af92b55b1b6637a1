"""The receiver of integration webhooks."""
