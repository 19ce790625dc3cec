"""The Flower apps and strategies: Flower's public API, and no network traffic."""
