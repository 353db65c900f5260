"""The aggregator: opens campaigns, verifies proofs, averages what is admitted and records it on the ledger."""
