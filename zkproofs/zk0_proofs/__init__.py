"""What all parties of zk0 agree on, byte for byte: statement, digests, proof and the rules of a round."""
