"""The rules of a round, free of input and output: the aggregator decides by them and the audit recomputes by them."""
