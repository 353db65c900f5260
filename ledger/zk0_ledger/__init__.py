"""The ledger of contributions: a typed client of the contract, its index and the local chain."""
