"""The rules of a round, free of input and output: the aggregator decides and the audit recomputes by them."""
