"""The ledger's page: what the commands list, as HTML and JSON under addresses that can be shared.

Nothing here writes to the ledger, asks for a key or needs more than what anybody can read from the chain.
"""
