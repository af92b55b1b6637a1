"""What a daemon tells over HTTP: whether it is alive and ready, its status page and its metrics. All that only reads.

On an address of its own it also receives the vendor's integration webhooks, which it keeps.
"""
