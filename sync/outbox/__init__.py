"""The outbox: changes that users queue, and their way to the API and back."""
