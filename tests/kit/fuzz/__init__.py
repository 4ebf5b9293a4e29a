"""Traces, payloads and verdicts changed at random, and every verb that reads them."""
