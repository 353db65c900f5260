"""The aggregator: opens campaigns, verifies proofs, averages what is admitted, records it on the ledger."""
