"""Durable subscriptions that several workers share."""
