"""What every party of zk0 agrees on, byte for byte: the statement, its digests, its proof and the rules of a round."""
